"""The events while a video is made, and a listener: progress bars. Files and pages are listeners too."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from stableavatar_jax import startup
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.shapes import Array, Float
from stableavatar_jax.words import duration


@dataclass(frozen=True)
class Encoding:
    """An encoder is about to be loaded and run."""

    part: str
    done: int
    of: int


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the encoders made of a job, or of an earlier run of it."""

    conditions: Conditions


@dataclass(frozen=True)
class Denoised:
    """A number of windows has been stepped, counted at every step."""

    done: int
    of: int | None
    """None while a live sound goes on."""


class State(NamedTuple):
    """What denoising goes on from."""

    place: dict[str, int]
    """Where in the order it is."""
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Rough:
    """The first window of a video that is denoised alone has been stepped once more."""

    steps: int
    """Steps it has behind it."""
    z: Callable[[], Float[Array, "S H W C"]]
    """Gives the frames of its stride, on the device; to be called at once, or not at all."""


@dataclass(frozen=True, eq=False)
class Standing:
    """Denoising can go on from here in another process. Each event replaces the one before."""

    state: Callable[[], State]
    """Copies the state from the device; to be called at once, or not at all."""


@dataclass(frozen=True)
class Finished:
    """Latent frames that nothing will change any more, in the order of the video."""

    start: int
    """Latent frame at which they begin."""
    z: Float[np.ndarray, "n H W C"]


@dataclass(frozen=True)
class Decoded:
    """A number of frames of the video is made."""

    done: int
    of: int | None
    """None while a live sound goes on."""


Event = Encoding | Encoded | Denoised | Rough | Standing | Finished | Decoded
Tell = Callable[[Event], None]
"""A listener. It is called between calls of compiled programs, and may raise to stop the run."""


def silent(event: Event) -> None:
    """Listen to nothing."""


def both(*listeners: Tell) -> Tell:
    """Tell several listeners, in their order."""

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell


def ending(output: Path, seconds: float, taken: float, pace: float = 0.0) -> str:
    """The last line of a run: its video, the time taken, the share of real time (1: as fast as it plays), and frames a
    second once the first came.
    """
    told = f"{output}: {seconds:.2f} s of video in {duration(taken)}, {seconds / taken:.2g} of real time"
    return f"{told}; {pace:.3g} frames a second once begun" if pace else told


class Pace:
    """A listener that counts frames from the first that comes on."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock, self._first, self._last, self._begun = clock, 0, 0, 0.0

    def __call__(self, event: Event) -> None:
        """Look at an event."""
        if isinstance(event, Decoded):
            self._last = event.done
            if not self._first:
                self._first, self._begun = event.done, self._clock()

    def frames_a_second(self) -> float:
        """Of the frames after the first ones, until now; 0 where there are none."""
        new = self._last - self._first
        return new / (self._clock() - self._begun) if new else 0.0


def first_step() -> Tell:
    """A listener that prints, when the first step is done, where the time until then went."""
    waiting = True

    def tell(event: Event) -> None:
        nonlocal waiting
        if waiting and isinstance(event, Denoised):
            waiting = False
            tqdm.write(startup.told())

    return tell


class Bars:
    """A progress bar for each stage, one below the other: encoders, windows, frames.

    >>> with Bars() as bars:
    ...     for block in frames(job, avatar, tell=bars): ...
    """

    def __init__(self) -> None:
        self._bars: dict[str, tqdm] = {}

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for bar in self._bars.values():
            bar.close()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Encoding(part, done, of):
                self._show("encode", "part", done, of).set_postfix_str(part)
            case Denoised(done, of):
                self._show("denoise", "window", done, of)
            case Decoded(done, of):
                self._show("decode", "frame", done, of)

    def _show(self, stage: str, unit: str, done: int, of: int | None) -> tqdm:
        if stage not in self._bars:
            if encoders := self._bars.get("encode"):  # each is told of before it runs: the last one is done now
                encoders.update((encoders.total or 0) - encoders.n)
            self._bars[stage] = tqdm(total=of, desc=stage, unit=unit, position=len(self._bars))
        bar = self._bars[stage]
        bar.total = of
        bar.update(done - bar.n)
        return bar
