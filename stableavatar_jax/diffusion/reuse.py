"""Which parts of an evaluation each step needs: whole numbers and shares, read without JAX.

Guidance may be taken in an interval of the steps alone, and the network's blocks may be left out where what they add
changes little (MagCache, arXiv 2506.09045). Both are settled before the first step, so that every kind of step is a
program of its own.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

FEWEST = 10
"""Steps below which a cache is refused: at 8 steps or fewer what is left out changes too much."""


class Step(NamedTuple):
    """What a step evaluates."""

    guided: bool = True
    """All branches of guidance, else the main one alone."""
    skipped: bool = False
    """The blocks are not run; what they added last is added again."""


Schedule = tuple[Step, ...]
"""One for each step."""


def guided_steps(steps: int, first: float, until: float) -> tuple[bool, ...]:
    """Which steps are guided: those from a share of all steps until another, 0 to 1, each rounded to whole steps."""
    begin, end = (math.floor(share * steps + 0.5) for share in (first, until))
    return tuple(begin <= step < end for step in range(steps))


def skipped_steps(
    ratios: Sequence[Sequence[float]], guided: Sequence[bool], main: int, *, threshold: float, most: int, first: float
) -> tuple[bool, ...]:
    """Which steps leave the blocks out, for all branches that they evaluate together.

    `ratios` are those of each branch: the size of what the blocks add at a step over its size at the step before. From
    the share `first` of the steps on, the ratios since the blocks ran last are multiplied, and what that differs from 1
    is added up; the blocks are left out while the sum is below `threshold` for every branch, `most` steps in a row.
    A branch that has not run yet is run.
    """
    steps, begin = len(guided), math.floor(first * len(guided))
    product, error, row = [1.0] * len(ratios), [0.0] * len(ratios), 0
    known: set[int] = set()
    skipped = []
    for step in range(steps):
        needed = set(range(len(ratios))) if guided[step] else {main}
        row += step >= begin
        for branch in needed if step >= begin else ():
            product[branch] *= ratios[branch][step]
            error[branch] += abs(1 - product[branch])
        small = all(error[branch] < threshold for branch in needed)
        skips = step >= begin and small and row <= most and needed <= known
        if not skips:
            product, error, row = [1.0] * len(ratios), [0.0] * len(ratios), 0
            known |= needed
        skipped.append(skips)
    return tuple(skipped)
