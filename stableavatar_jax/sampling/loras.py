"""LoRA options: PATH or PATH:SCALE."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.sampling.paths import split_scale
from stableavatar_jax.trees import flatten
from stableavatar_jax.weights.lora import load_lora


def read_loras(options: Sequence[str]) -> list[tuple[Path, Any, float]]:
    """File, tree and scale of each; raises Mistake for a scale that is no number, or a file that is no LoRA."""
    found = []
    for option in options:
        path, scale = split_scale(option)
        tree = load_lora(path)
        for name, factor in flatten(tree).items():
            if not np.isfinite(factor).all():
                raise Mistake(f"{path}: {name} has values that are not finite; export the LoRA again")
        found.append((path, tree, scale))
    return found
