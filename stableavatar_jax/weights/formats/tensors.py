"""Tensors that stay on disk, or are not computed, until their values are needed."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.threads import ahead

PIECE = 1 << 20  # bytes made at a time where a tensor is written: they stay in a core's cache while it is transposed
STRIP = 32  # columns
AHEAD = 8  # pieces that are made while one is written


@dataclass(frozen=True)
class LazyTensor:
    """One tensor: shape and dtype are known, the values are made when asked for."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], np.ndarray]
    """Makes the values, in any dtype: mostly a read-only map of a file, whose memory goes back when the array does."""
    row: Callable[[int], np.ndarray] | None = None
    """Makes the values at one index of the first axis, where that takes less than making them all."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensor."""
        return self.size * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """All values."""
        return self.load().astype(self.dtype, copy=False)

    def __getitem__(self, index: int) -> np.ndarray:
        """The values at one index of the first axis, such as a layer."""
        return (self.row(index) if self.row else self.load()[index]).astype(self.dtype, copy=False)

    def cast(self, dtype: Any) -> "LazyTensor":
        """The same tensor in another dtype; it is converted where it is read."""
        return replace(self, dtype=np.dtype(dtype))

    def pieces(self, size: int = PIECE) -> Iterator[np.ndarray]:
        """The values in order, as dense arrays of at most about `size` bytes, one in memory at a time."""
        for whole in map(self.row, range(self.shape[0])) if self.row else (self.load(),):
            yield from _pieces(whole, self.dtype, size)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.read(), dtype=dtype, copy=copy)


def lazy(array: Any) -> LazyTensor:
    """An array that is in memory already, as a LazyTensor."""
    array = np.asarray(array)
    return LazyTensor(array.shape, array.dtype, lambda: array)


def mapped(path: Path, dtype: np.dtype[Any], offset: int, count: int) -> np.ndarray:
    """`count` elements of a file from byte `offset`, read-only. They need not be aligned."""
    if count == 0:
        return np.empty(0, dtype)  # a map cannot be empty
    return np.memmap(path, dtype, "r", offset, (count,))


def pieces_of(tensors: Iterable[LazyTensor]) -> Iterator[np.ndarray]:
    """All pieces of the tensors in order, a few of which a thread of its own makes before they are asked for.

    So one core turns tensors about and another writes them.
    """
    pieces = (piece for tensor in tensors for piece in tensor.pieces())
    return ahead(pieces, AHEAD)


def is_count(value: Any) -> bool:
    """Whether a value from a file is an integer of at least 0 (True is none)."""
    return type(value) is int and value >= 0


def _pieces(array: np.ndarray, dtype: np.dtype[Any], size: int) -> Iterator[np.ndarray]:
    rows = size * len(array) // max(array.size * dtype.itemsize, 1) if array.ndim else 0
    if array.ndim > 1 and not rows:  # a single index of the first axis is larger than a piece
        for part in array:
            yield from _pieces(part, dtype, size)
    elif array.ndim == 0 or rows >= len(array):
        yield _dense(array, dtype)
    else:
        yield from (_dense(array[i : i + rows], dtype) for i in range(0, len(array), rows))


def _dense(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """A C-contiguous array. A transposed matrix is copied in strips of few columns, which is 3 times as fast."""
    if array.dtype == dtype and dtype.itemsize in (1, 2, 4, 8):
        plain = np.dtype(f"u{dtype.itemsize}")  # numpy copies bfloat16, which it does not know, number by number
        return _ordered(array.view(plain), plain).view(dtype)
    return _ordered(array, dtype)


def _ordered(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if array.ndim != 2 or array.strides[0] != array.itemsize or array.flags.c_contiguous:
        return np.ascontiguousarray(array, dtype)
    out = np.empty(array.shape, dtype)
    for i in range(0, array.shape[1], STRIP):
        out[:, i : i + STRIP] = array[:, i : i + STRIP]
    return out
