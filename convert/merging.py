"""LoRAs added to a model directory's transformer, a layer at a time."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stableavatar_jax.checkpoint import check_params
from stableavatar_jax.config import FILE, read_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models import lora as loras
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.sampling.defaults import DEFAULTS_FILE
from stableavatar_jax.sampling.loras import read_loras
from stableavatar_jax.trees import flatten
from stableavatar_jax.weights.directory import has_part, open_part, write_part
from stableavatar_jax.weights.formats.tensors import LazyTensor
from stableavatar_jax.weights.lora import DELTA
from stableavatar_jax.whole import whole
from stableavatar_jax.words import count

from . import parts
from .importing import TOKENIZER
from .options import PARTS, Dtype
from .record import hashed, part_files, recorded


def merge(options: Sequence[str], source: Path, output: Path, dtype: Dtype | None, overwrite: bool) -> str:
    """Write the model directory `output`: that of `source` with LoRAs (PATH or PATH:SCALE) added to its transformer.

    The other parts are copied. Sums are made in float32 and rounded once, to `dtype` or the one the weights have.
    Raises Mistake for a LoRA that does not fit the model.
    """
    model = read_config(source, AvatarConfig)
    part = parts.part("dit", model)
    check_params(source / "dit", part.abstract)
    files = read_loras(options)
    for file, tree, _ in files:
        try:
            jax.eval_shape(loras.merge, part.abstract, tree)
        except ValueError as error:
            raise Mistake(f"{file}: {error}; it was trained on another model") from None
    tensors = open_part(source / "dit")
    for _, tree, scale in files:
        tensors = added(tensors, flatten(tree), scale)
    if dtype:
        tensors = {path: tensor.cast(dtype) for path, tensor in tensors.items()}
    used = [*part_files(source / "dit"), *(file for file, _, _ in files)]
    size = sum(tensor.nbytes for tensor in tensors.values())
    with whole(
        output, folder=True, replace=overwrite, inputs=[source, *(f for f, _, _ in files)], space=size
    ) as partial:
        partial.mkdir(exist_ok=True)
        for name in PARTS:
            if name != "dit" and has_part(source / name):
                _copy(source / name, partial / name)
        for beside in (FILE, TOKENIZER, DEFAULTS_FILE):
            if (source / beside).is_file():
                shutil.copyfile(source / beside, partial / beside)
        facts = {"command": "merge", "loras": list(options), "dtype": dtype or "as stored"}
        with hashed(used) as sources, recorded(partial, "dit", sources, tensors, **facts) as tell:
            write_part(partial / "dit", tensors, tell)
    return f"{output}: {count(len(files), 'LoRA')} added to dit, {size / 1e9:.2f} GB"


def added(tensors: Mapping[str, LazyTensor], lora: Mapping[str, np.ndarray], strength: float) -> dict[str, LazyTensor]:
    """Parameters {path: tensor} with a LoRA {path: leaf} added where they are read; the tensors keep their dtypes."""
    return {path: _sum(path, tensor, lora, strength) for path, tensor in tensors.items()}


def _sum(path: str, tensor: LazyTensor, lora: Mapping[str, Any], strength: float) -> LazyTensor:
    stem = path.removesuffix("/kernel")
    delta = lora.get(f"{path}/{DELTA}")
    down = lora.get(f"{stem}/down") if path.endswith("/kernel") else None
    if delta is None and down is None:
        return tensor
    up, scale = (lora.get(f"{stem}/{leaf}") for leaf in ("up", "scale"))

    def sum_of(value: np.ndarray, at: Any) -> np.ndarray:
        total = value.astype(np.float32)
        if down is not None and up is not None and scale is not None and _has(down, at):
            total += np.float32(strength * scale[at]) * (down[at] @ up[at])
        if delta is not None and _has(delta, at):
            total += np.float32(strength) * delta[at]
        return total

    if path.startswith("blocks/"):
        row = lambda index: sum_of(tensor[index], index)  # noqa: E731
        return replace(tensor, load=lambda: np.stack([row(i) for i in range(tensor.shape[0])]), row=row)
    return replace(tensor, load=lambda: sum_of(tensor.read(), ()), row=None)


def _has(leaf: np.ndarray, at: Any) -> bool:
    """Whether a LoRA speaks of a layer; those at the end may be left out."""
    return at == () or at < len(leaf)


def _copy(folder: Path, to: Path) -> None:
    """Copy the part `DIR/PART`, whichever form it has."""
    if folder.is_dir():
        shutil.copytree(folder, to)
    else:
        for file in part_files(folder):
            shutil.copyfile(file, to.parent / file.name)
