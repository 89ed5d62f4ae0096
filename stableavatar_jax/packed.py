"""A part's weights as one safetensors file, `DIR/PART.safetensors`: what small models are shipped as.

Tensors are named by their paths in the tree, joined by "/". Large parts stay orbax folders, which are read straight
into any sharding and dtype without a whole part in memory.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from stableavatar_jax.shapes import Shaped

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
          "U8": "uint8", "BOOL": "bool"}  # fmt: skip


def packed_file(folder: Path) -> Path | None:
    """The file that stands for a part's folder, where there is one and no such folder."""
    file = folder.with_name(f"{folder.name}.safetensors")
    return file if file.is_file() and not folder.exists() else None


def read_header(file: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """{path: shape and dtype} of all tensors, without reading them."""
    with _opened(file) as opened:
        slices = {path: opened.get_slice(path) for path in opened.keys()}  # noqa: SIM118
        return {path: (tuple(s.get_shape()), jnp.dtype(DTYPES[s.get_dtype()])) for path, s in slices.items()}


def read_tensors(file: Path) -> Iterable[tuple[str, Shaped[np.ndarray, "..."]]]:
    """Path and value of every tensor, one in memory at a time."""
    with _opened(file) as opened:
        for path in opened.keys():  # noqa: SIM118
            yield path, opened.get_tensor(path)


def write_tensors(file: Path, tensors: Mapping[str, Shaped[np.ndarray, "..."]]) -> None:
    """Write a file, whole or not at all."""
    from safetensors.numpy import save_file

    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        save_file({path: np.ascontiguousarray(value) for path, value in tensors.items()}, partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _opened(file: Path) -> Any:
    from safetensors import safe_open  # here: a machine that trains from orbax folders alone may lack it

    return safe_open(file, "numpy")
