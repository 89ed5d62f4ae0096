"""The parts of a model directory: `DIR/PART.safetensors`, or an orbax folder `DIR/PART` as training writes it.

Tensors of the file are named by their paths in the tree, joined by "/". It is mapped, so any process reads the shards
it needs and no more. Where both are there the folder counts.
"""

import contextlib
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.formats.safetensors import Row, open_safetensors, write_rows, write_safetensors
from stableavatar_jax.weights.formats.tensors import LazyTensor
from stableavatar_jax.weights.formats.zarr import open_zarr
from stableavatar_jax.whole import check_folder, check_output, whole


def part_file(folder: Path) -> Path | None:
    """The file that stands for a part's folder `DIR/PART`, where there is one and no such folder."""
    file = _file(folder)
    return file if file.is_file() and not folder.exists() else None


def has_part(folder: Path) -> bool:
    """Whether a model directory has the part `DIR/PART`, as a folder or as a file."""
    return folder.is_dir() or part_file(folder) is not None


def open_part(folder: Path) -> dict[str, LazyTensor]:
    """{path: parameter} of the part `DIR/PART`; raises Mistake where it is missing or damaged."""
    if file := part_file(folder):
        return open_safetensors(file)
    if not folder.is_dir():
        raise Mistake(
            f"{folder}: no such folder; bring the weights in with "
            f"`python -m convert import --part {folder.name} --source FILE --output {folder.parent}`"
        )
    return open_zarr(folder)


def check_part(folder: Path, size: int, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Raise Mistake where a part of `size` bytes cannot be written as the file of `DIR/PART`, or where `inputs`, files
    or folders that are read, would be lost by it.
    """
    if has_part(folder) and not overwrite:
        raise Mistake(f"{folder} exists already; pass --overwrite to replace it")
    check_folder(folder.parent, inputs=inputs, space=size)
    if folder.parent.is_dir():
        check_output(_file(folder), inputs=inputs)
    if folder.is_dir():
        check_output(folder, folder=True, replace=True, inputs=inputs)


def write_part(
    folder: Path, tensors: Mapping[str, LazyTensor], tell: Callable[[int], None] = lambda size: None
) -> Path:
    """Write parameters {path: tensor} as the file of the part `DIR/PART`, in place of what is there; gives the file."""
    with _new(folder, sum(tensor.nbytes for tensor in tensors.values())) as partial:
        write_safetensors(partial, tensors, tell=tell)
    return _file(folder)


def write_part_rows(folder: Path, shapes: Mapping[str, tuple[int, ...]], dtype: Any, values: Iterable[Row]) -> Path:
    """`write_part` of values that come in any order, as `write_rows` takes them."""
    with _new(folder, sum(map(math.prod, shapes.values())) * np.dtype(dtype).itemsize) as partial:
        write_rows(partial, shapes, dtype, values)
    return _file(folder)


@contextlib.contextmanager
def _new(folder: Path, size: int) -> Iterator[Path]:
    file = _file(folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole(file, space=size) as partial:
        yield partial
    if folder.is_dir():
        shutil.rmtree(folder)


def _file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.safetensors")
