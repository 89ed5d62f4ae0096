"""The likeness of two curves, and how far one comes after the other."""

from typing import NamedTuple

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Float

FLAT = 0.1
"""A curve that moves by less in all is flat: a mouth that only grows darker is measured to move by up to 0.09."""


class Correlation(NamedTuple):
    """How alike two curves are."""

    r: float
    """Pearson's, at the lag where it is highest; 0 where a curve is flat."""
    lag: int
    """Frames by which the first comes after the second."""


def correlation(
    a: Float[np.ndarray, "T"], b: Float[np.ndarray, "S"], max_lag: int = 0, flat: tuple[float, float] = (FLAT, FLAT)
) -> Correlation:
    """The highest correlation of two curves over lags of up to `max_lag` frames either way.

    `flat` are the ranges below which each of them is taken not to move; the default is for openings in 0..1.
    """
    if len(a) != len(b) or len(a) <= max_lag + 1:
        raise Mistake(f"curves of {len(a)} and {len(b)} frames; both must have one length, above max_lag + 1")
    found = []
    for lag in sorted(range(-max_lag, max_lag + 1), key=abs):
        first, second = a[max(0, lag) : len(a) + min(0, lag)], b[max(0, -lag) : len(b) + min(0, -lag)]
        still = np.ptp(first) < flat[0] or np.ptp(second) < flat[1]
        found.append(Correlation(0.0 if still else float(np.corrcoef(first, second)[0, 1]), lag))
    return max(found, key=lambda one: one.r)
