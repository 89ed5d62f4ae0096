"""Several outputs of a filter of three taps with fewer products: minimal filtering (Winograd 1980)."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from stableavatar_jax.shapes import Array, Float


class Filtering(NamedTuple):
    """y = outputs @ ((taps @ g) * (inputs @ x)) are the n values of a filter g over n + 2 inputs x: n + 2 products."""

    outputs: Float[np.ndarray, "n m"]
    taps: Float[np.ndarray, "m 3"]
    inputs: Float[np.ndarray, "m m"]


TWO = Filtering(
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]], float),
    np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], float),
)
FOUR = Filtering(
    np.array([[8, 8, 8, 8, 8, 0], [0, 8, -8, 4, -16, 0], [0, 8, 8, 2, 32, 0], [0, 8, -8, 1, -64, 8]]) / 8,
    np.array([[30, 0, 0], [5, 5, 5], [5, -5, 5], [32, 16, 8], [1, -2, 4], [0, 0, 30]]) / 30,
    np.array([
        [2, -3, -4, 3, 2, 0], [0, -4, 2, 10, 4, 0], [0, -4, 10, -2, -4, 0], [0, 4, 2, -4, -2, 0], [0, 2, -4, -2, 4, 0],
        [0, 2, -3, -4, 3, 2],
    ]) / 2,
)  # fmt: skip
"""The product of polynomials, by their values at points, transposed. The points are 0, 1, -1 and infinity; for four
outputs also 1/2 and -2, which round half as much as the usual 2 and -2."""


def filtering(length: int) -> Filtering | None:
    """The larger of the two that divides a number of outputs."""
    return FOUR if length % 4 == 0 else TWO if length % 2 == 0 else None


def combine(numbers: Float[np.ndarray, "m"], parts: list[Array]) -> Array:
    """Sum of parts, each times its number; those times 0 cost nothing."""
    used = [(float(number), part) for number, part in zip(numbers, parts, strict=True) if number]
    terms = [part if number == 1 else number * part for number, part in used]
    return functools.reduce(jnp.add, terms)
