"""Tensors that stay on disk until someone asks for their values."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LazyTensor:
    """One tensor of a file: shape and dtype are known, the values are mapped from disk when asked for."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]
    """Maps the values, read-only; the memory goes back when the array does."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensor."""
        return self.size * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.read(), dtype=dtype, copy=copy)


def mapped(path: Path, dtype: np.dtype[Any], offset: int, count: int) -> np.ndarray:
    """`count` elements of a file from byte `offset`, read-only. They need not be aligned."""
    if count == 0:
        return np.empty(0, dtype)  # a map cannot be empty
    return np.memmap(path, dtype, "r", offset, (count,))


def is_count(value: Any) -> bool:
    """Whether a value from a file is an integer of at least 0 (True is none)."""
    return type(value) is int and value >= 0
