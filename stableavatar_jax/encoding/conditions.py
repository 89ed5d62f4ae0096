"""What the transformer is conditioned on, as arrays and as a file."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Bool, Float
from stableavatar_jax.weights.formats.safetensors import write_safetensors
from stableavatar_jax.weights.formats.tensors import lazy
from stableavatar_jax.whole import whole


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Everything but noise that a video is made from; float32 on the host."""

    text: Float[np.ndarray, "T L E"]
    """Features of the prompt and of the negative prompt."""
    text_mask: Bool[np.ndarray, "T L"]
    """Which of their tokens are text and not padding."""
    image: Float[np.ndarray, "I G"]
    """The picture's tokens."""
    reference: Float[np.ndarray, "F H W Y"]
    """Mask and latents of the picture as the first frame of a window, the same for every window."""
    audio: Float[np.ndarray, "windows A V"] | None = None
    """Features of each window's sound; None where it is encoded when it is needed."""


def save_conditions(path: Path, conditions: Conditions, about: dict[str, Any]) -> None:
    """Write conditions as safetensors; `about` says what video they are for. Raises Mistake where that fails."""
    given = {each.name: getattr(conditions, each.name) for each in fields(Conditions)}
    tensors = {name: lazy(array) for name, array in given.items() if array is not None}
    with whole(path, space=sum(tensor.nbytes for tensor in tensors.values())) as partial:
        write_safetensors(partial, tensors, {key: json.dumps(value) for key, value in about.items()})


def load_conditions(path: Path, about: dict[str, Any]) -> Conditions:
    """Conditions from a file, mapped; raises Mistake where it is not one, or was made for another video."""
    again = "make it again with --save-conditions"
    if not path.is_file():
        raise Mistake(f"{path}: no such file; {again}")
    try:
        with safe_open(path, "numpy") as file:
            made_for = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise Mistake(f"{path}: no readable safetensors file ({error}); {again}") from None
    if arrays.keys() | {"audio"} != {each.name for each in fields(Conditions)}:
        raise Mistake(f"{path}: a safetensors file, but not of conditions; {again}")
    for key, value in about.items():
        if made_for.get(key) != value:
            found = made_for.get(key)
            raise Mistake(f"{path}: made for {key} {found}, not {value}; {again}, or change --{key}")
    return Conditions(**arrays)
