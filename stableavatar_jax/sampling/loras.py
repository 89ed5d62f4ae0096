"""LoRA options: PATH or PATH:SCALE."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.lora import load_lora


def read_loras(options: Sequence[str]) -> list[tuple[Path, Any, float]]:
    """File, tree and scale of each; raises Mistake for a scale that is no number, or a file that is no LoRA."""
    found = []
    for each in options:
        path, _, scale = each.rpartition(":")
        try:
            file, factor = (Path(path), float(scale)) if path else (Path(each), 1.0)
        except ValueError:
            raise Mistake(f"--lora {each}: {scale!r} is no scale; give PATH or PATH:SCALE") from None
        found.append((file, load_lora(file), factor))
    return found
