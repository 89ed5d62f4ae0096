"""A model directory as few files: each part one safetensors file in one dtype, as small models are shipped."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from stableavatar_jax.checkpoint import check_params, iterate_params
from stableavatar_jax.config import read_config, write_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.packed import write_tensors

from . import parts
from .importing import TOKENIZER

LARGEST = 2 << 30  # a part is held in memory whole while it is written


def pack(folder: Path, output: Path, chosen: Sequence[str], dtype: str, overwrite: bool) -> Iterator[Path]:
    """Write the parts of a model directory into another one, and yield the files.

    Raises Mistake for a part that is missing, does not fit config.json, is too large or is there already.
    """
    avatar = read_config(folder, AvatarConfig)
    output.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        check_params(folder / name, parts.part(name, avatar).abstract)
        file = output / f"{name}.safetensors"
        if file.exists() and not overwrite:
            raise Mistake(f"{file} exists already; pass --overwrite to replace it")
        tensors: dict[str, np.ndarray] = {}
        for path, array in iterate_params(folder / name):
            tensors[path] = array.astype(jnp.dtype(dtype)) if jnp.issubdtype(array.dtype, jnp.floating) else array
            if sum(tensor.nbytes for tensor in tensors.values()) > LARGEST:
                raise Mistake(f"{folder / name}: above 2 GB in {dtype}; large parts stay folders")
        write_tensors(file, tensors)
        yield file
    write_config(output, avatar)
    if avatar.tokenizer == "file" and (folder / TOKENIZER).is_file():
        shutil.copy(folder / TOKENIZER, output / TOKENIZER)
