"""Which windows are evaluated together, and when a latent frame is final: whole numbers, read without JAX.

Window w at step s reads frames that windows up to w + K - 1 step at s - 1, where K windows meet in a frame. So all
pairs (w, s) of one diagonal w + K s can be evaluated at once, the wavefront, and diagonals follow one another. Walked
so, a video passes the steps on a line of K (S - 1) + 1 places: a window enters at step 0, moves one place a diagonal,
and is at step s on place K s. What is needed does not grow with the video.
"""

import itertools
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

MOST_WASTE = 1.1
"""Evaluated rows over needed ones that the choice of micro-batches may cost."""


def reach(window: int, overlap: int) -> int:
    """K: windows from a window's first to the first that shares no frame with it, itself included."""
    return math.ceil(window / (window - overlap))


class Place(NamedTuple):
    """A stride of a video on the line."""

    video: int
    """Number of its video."""
    number: int
    """Number of the stride in the video: of the window that begins there."""
    live: bool
    """Whether a window begins there. What the last window reaches past its own stride is stepped without one."""


class Arrival(NamedTuple):
    """What comes onto the line before a diagonal."""

    place: Place | None
    """The place that begins at step 0; None before the first and after the last."""
    noise: tuple[int, int] | None
    """Video and number of the stride whose noise comes along: the last that the window at `place` reads."""
    own: Any = None
    """What its window has for itself."""


def arrivals(videos: Iterable[Iterable[Any]], reach: int, steps: int) -> Iterator[Arrival]:
    """All that comes onto the line while videos pass it, one behind the other, until it is empty again.

    Of each video the windows' own things are given, from left to right; they are taken when the window comes, so their
    number may be unknown until they end. `reach` - 1 strides follow the last window and bring the next video's noise.
    """
    behind: list[Place | None] = [None] * (reach - 1)
    for video, windows in enumerate(videos):
        yield from (Arrival(place, (video, number)) for number, place in enumerate(behind))
        count = 0
        for own in windows:
            yield Arrival(Place(video, count, True), (video, count + reach - 1), own)
            count += 1
        behind = [Place(video, count + number, False) for number in range(reach - 1)]
    yield from (Arrival(place, None) for place in behind)
    yield from itertools.repeat(Arrival(None, None), reach * (steps - 1))


class Line:
    """The places between the first step and the last. `step[s]` is what is at step s."""

    def __init__(self, reach: int, steps: int):
        self.reach, self.steps = reach, steps
        self.length = reach * (steps - 1) + 1
        """Number of places."""
        self._places: deque[Place | None] = deque([None] * self.length, self.length)

    def move(self, arrived: Place | None) -> None:
        """Everything moves on by one place."""
        self._places.appendleft(arrived)

    def rows(self) -> list[tuple[int, Place]]:
        """Steps and places of this diagonal: windows first, then those without one; late steps first."""
        found = [(s, place) for s in reversed(range(self.steps)) if (place := self._places[self.reach * s])]
        return sorted(found, key=lambda row: not row[1].live)

    @property
    def finished(self) -> Place | None:
        """The place whose stride is final after this diagonal."""
        return self._places[-1]


@dataclass(frozen=True)
class Work:
    """Rows of a run."""

    needed: int
    """Windows times steps."""
    evaluated: int
    """Rows that pass the network, those that fill up micro-batches included."""
    before_first: int
    """Window evaluations until the first stride of the first video is final."""

    @property
    def waste(self) -> float:
        """Evaluated over needed rows."""
        return self.evaluated / self.needed


def work(windows: Iterable[int], reach: int, steps: int, rows: int, kind: Sequence[Any] = ()) -> Work:
    """The rows that videos of so many windows cost in the wavefront order, exactly; `kind` is that of each step, where
    micro-batches have steps of one kind.
    """
    live, before_first = _diagonals(windows, reach, steps, kind)
    return Work(sum(live), rows * sum(math.ceil(each / rows) for each in live), before_first)


def widest(windows: Iterable[int], reach: int, steps: int, most: int, kind: Sequence[Any] = ()) -> int:
    """The most rows of a micro-batch, up to `most`, that keep the waste of these videos within MOST_WASTE."""
    live, _ = _diagonals(windows, reach, steps, kind)
    waste = lambda rows: rows * sum(math.ceil(each / rows) for each in live) / sum(live)  # noqa: E731
    return next((rows for rows in range(min(most, steps), 1, -1) if waste(rows) <= MOST_WASTE), 1)


def _diagonals(windows: Iterable[int], reach: int, steps: int, kind: Sequence[Any]) -> tuple[list[int], int]:
    """Windows of each diagonal and kind, and evaluations until the first stride of the first video is final."""
    line, before_first = Line(reach, steps), 0
    live: list[int] = []
    for arrival in arrivals(map(range, windows), reach, steps):
        line.move(arrival.place)
        kinds = Counter(kind[step] if kind else None for step, place in line.rows() if place.live)
        live += kinds.values()
        if line.finished and line.finished[:2] == (0, 0):
            before_first = sum(live)
    return live, before_first
