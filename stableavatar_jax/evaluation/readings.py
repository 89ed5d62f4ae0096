"""What is seen in the frames of a video, and who looks: the one protocol between videos and measures."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from stableavatar_jax import media
from stableavatar_jax.evaluation.quality import sharpness
from stableavatar_jax.shapes import Float, UInt8

Frame = UInt8[np.ndarray, "H W 3"]
GRID = 8
"""Rows and columns of the cells in which colours are looked at."""


@dataclass(frozen=True, kw_only=True)
class Faces:
    """What a reader sees of the face in every frame; NaN where it finds none."""

    opening: Float[np.ndarray, "T"]
    """How far the mouth is open, in the reader's own unit."""
    place: Float[np.ndarray, "T 2"]
    """Where the head is: x and y in shares of the picture's width."""
    flat: float
    """Range of `opening` below which the mouth is taken to be still, as it is what the reader sees in a still one."""
    identity: dict[str, Float[np.ndarray, "N D"]] = field(default_factory=dict)
    """What tells one person from another, by the name of the measure (`drift.IDENTITY`), in some of the frames."""


Reader = Callable[[Iterable[Frame]], Faces]
"""Looks at the frames of a video, one after another, and says what it sees of the face."""


@dataclass(frozen=True, kw_only=True)
class Readings:
    """All that is seen in a video, frame by frame."""

    fps: float
    colours: Float[np.ndarray, "T cells 3"]
    """Mean colours of a grid of cells, CIELAB."""
    sharpness: Float[np.ndarray, "T"]
    """See `quality.sharpness`."""
    change: Float[np.ndarray, "T"]
    """Mean difference from the frame before, in grey levels of 255; NaN in the first."""
    faces: Faces | None = None
    """None where nobody looked for a face."""

    def __len__(self) -> int:
        return len(self.change)


def read(frames: Iterable[Frame], fps: float | int, reader: Reader | None = None) -> Readings:
    """Look at a video in one pass, in memory that does not grow with the size of its pictures."""
    notes = _Notes()
    watched = notes.watch(frames)
    faces = reader(watched) if reader else None
    for _ in watched:  # what the reader left, or all where there is none
        pass
    seen = {name: np.array(values, np.float64) for name, values in notes.seen.items()}
    return Readings(fps=float(fps), faces=faces, **seen)


def cells(frame: Frame) -> Float[np.ndarray, "cells 3"]:
    """Mean colours of a grid of `GRID` x `GRID` cells, CIELAB."""
    rows, columns = (np.linspace(0, n, GRID + 1).astype(int) for n in frame.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(frame.astype(np.float64), rows[:-1], 0), columns[:-1], 1)
    areas = np.outer(np.diff(rows), np.diff(columns))[..., None]
    return media.cielab((sums / areas).reshape(-1, 3))


class _Notes:
    """Takes down what needs no reader while frames pass by."""

    def __init__(self) -> None:
        self.seen: dict[str, list] = {"colours": [], "sharpness": [], "change": []}

    def watch(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        before: Frame | None = None
        for frame in frames:
            change = np.nan if before is None else float(np.abs(frame.astype(np.int16) - before).mean())
            for name, value in (("colours", cells(frame)), ("sharpness", sharpness(frame)), ("change", change)):
                self.seen[name].append(value)
            before = frame
            yield frame
