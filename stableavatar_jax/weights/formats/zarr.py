"""The arrays of an orbax folder as `checkpoint.save_params` writes it: zarr, uncompressed, read without orbax.

Each array is a folder `a.b.c` with its description in `.zarray` and its chunks in files named by their place in the
grid, such as `0.0.1`. A chunk is the bytes of a dense block, so one layer of a stacked parameter is mapped where it
lies, and nothing else is read.
"""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.formats.pth import DTYPES
from stableavatar_jax.weights.formats.tensors import LazyTensor, is_count, mapped

ADVICE = "write the folder again"


def open_zarr(folder: Path) -> dict[str, LazyTensor]:
    """{path joined by "/": array} of all arrays in a folder; raises Mistake where one is damaged."""
    files = sorted(folder.glob("*/.zarray"))
    if not files:
        raise Mistake.at(folder, "no arrays in this folder", "give the folder of one part, such as MODEL/dit")
    return {file.parent.name.replace(".", "/"): _open(file) for file in files}


def _open(file: Path) -> LazyTensor:
    """One array; its chunks are looked at now, and read when asked for."""
    try:
        about = json.loads(file.read_text())
        shape, chunks = tuple(about["shape"]), tuple(about["chunks"])
        dtype = _dtype(about["dtype"])
        well_formed = len(shape) == len(chunks) and all(map(is_count, shape)) and all(map(is_count, chunks))
        plain = about["compressor"] is None and about["order"] == "C" and not about.get("filters")
        join = about.get("dimension_separator", ".")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        well_formed = plain = False
    if not well_formed or 0 in chunks:
        raise Mistake.at(file, "no description of an array", ADVICE)
    if not plain:
        raise Mistake.at(file, "its chunks are compressed or reordered, and cannot be mapped", ADVICE)
    grid = [range(-(-n // size)) for n, size in zip(shape, chunks, strict=True)]
    held = sum(1 for _ in file.parent.iterdir()) - 1
    if math.prod(-(-n // size) for n, size in zip(shape, chunks, strict=True)) > held:
        raise Mistake.at(file, f"{shape} in chunks of {chunks} needs more than the {held} files there", ADVICE)
    paths = {place: file.with_name(join.join(map(str, place)) or "0") for place in itertools.product(*grid)}
    size = math.prod(chunks) * dtype.itemsize
    for path in paths.values():
        if not path.is_file() or path.stat().st_size != size:
            raise Mistake.at(path, f"this chunk is missing or has not the {size} bytes of {chunks} {dtype}", ADVICE)

    def block(place: tuple[int, ...]) -> np.ndarray:
        return mapped(paths[place], dtype, 0, math.prod(chunks)).reshape(chunks)

    def load() -> np.ndarray:
        if len(paths) == 1 and chunks == shape:
            return block((0,) * len(shape))
        out = np.empty(shape, dtype)
        for place in paths:
            spans = [slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(place, chunks, shape, strict=True)]
            out[tuple(spans)] = block(place)[tuple(slice(s.stop - s.start) for s in spans)]
        return out

    def row(index: int) -> np.ndarray:
        out = np.empty(shape[1:], dtype)
        for place in paths:
            if place[0] == index // chunks[0]:
                rest = zip(place[1:], chunks[1:], shape[1:], strict=True)
                spans = [slice(i * c, min((i + 1) * c, n)) for i, c, n in rest]
                inside = block(place)[index % chunks[0]]
                out[tuple(spans)] = inside[tuple(slice(s.stop - s.start) for s in spans)]
        return out

    return LazyTensor(shape, dtype, load, row if len(shape) > 1 and len(paths) > 1 else None)


def _dtype(name: Any) -> np.dtype[Any]:
    """The dtype of zarr's name for it: NumPy's for those that NumPy knows, else `bfloat16` and the like."""
    if name in DTYPES:
        return DTYPES[name]
    dtype = np.dtype(name)
    if dtype.kind not in "biufc":
        raise ValueError(name)
    return dtype
