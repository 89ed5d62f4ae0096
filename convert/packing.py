"""A model directory written anew: its parts in another dtype, as one file each; or drawn at random."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes  # noqa: F401 (NumPy knows bfloat16 by it)
import numpy as np

from stableavatar_jax.checkpoint import check_params
from stableavatar_jax.config import read_config, write_config
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import load_preset
from stableavatar_jax.sampling.defaults import DEFAULTS_FILE
from stableavatar_jax.weights.directory import check_part, open_part, write_part, write_part_rows
from stableavatar_jax.weights.formats.tensors import LazyTensor
from stableavatar_jax.weights.rules import flatten
from stableavatar_jax.whole import copy

from . import parts
from .importing import TOKENIZER, write_sampling
from .options import Dtype, PartName
from .record import hashed, part_files, recorded


def pack(folder: Path, output: Path, chosen: Sequence[PartName], dtype: Dtype, overwrite: bool) -> Iterator[Path]:
    """Write the parts of a model directory into another one, and yield the files.

    Raises Mistake for a part that is missing, does not fit config.json or is there already.
    """
    model = read_config(folder, AvatarConfig)
    cast: dict[PartName, dict[str, LazyTensor]] = {}
    for name in chosen:
        check_params(folder / name, parts.part(name, model).abstract)
        tensors = open_part(folder / name)
        cast[name] = {
            path: x.cast(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x for path, x in tensors.items()
        }
        check_part(output / name, sum(x.nbytes for x in cast[name].values()), overwrite, [folder])
    write_config(output, model)
    for name, tensors in cast.items():
        facts = {"command": "pack", "dtype": dtype}
        with hashed(part_files(folder / name)) as sources, recorded(output, name, sources, tensors, **facts) as tell:
            yield write_part(output / name, tensors, tell)
    for beside in (TOKENIZER, DEFAULTS_FILE):
        if (folder / beside).is_file():
            copy(folder / beside, output / beside)


def draw(
    preset: Path, output: Path, chosen: Sequence[PartName], dtype: Dtype, seed: int, overwrite: bool
) -> Iterator[Path]:
    """Write a model directory of a preset's sizes with weights as its networks' initialisers draw them.

    Its videos show noise: it serves as a smoke test of every command, and to train from. Memory holds one layer, or
    what of a part is in no layer: at the published sizes at most UMT5's table, 4.2 GB as float32.
    """
    model = load_preset(preset, AvatarConfig)
    shapes = {
        name: {path: tuple(leaf.shape) for path, leaf in flatten(parts.part(name, model).abstract).items()}
        for name in chosen
    }
    for name in chosen:
        size = sum(map(math.prod, shapes[name].values())) * np.dtype(dtype).itemsize
        check_part(output / name, size, overwrite)
    write_config(output, model)
    if "dit" in chosen:
        write_sampling(output, model, preset)
    for name in chosen:
        facts = {"command": "random", "seed": seed, "dtype": dtype}
        with hashed(()) as sources, recorded(output, name, sources, {}, **facts):
            file = write_part_rows(output / name, shapes[name], dtype, parts.part(name, model).rows(seed, dtype))
        yield file
