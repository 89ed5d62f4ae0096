"""How far a video is and how long it still takes, told by the events of its run."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from stableavatar_jax.sampling.progress import Decoded, Denoised, Encoding, Event


class Stage(NamedTuple):
    """A stage of a video."""

    name: str
    done: int
    of: int


class _Clock:
    """The pace of a stage: the time since its first count, when its programs were compiled."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self.each: float | None = None
        """Seconds of one; None before two were counted."""

    def count(self, now: float, done: int) -> None:
        first, before = self._first = self._first or (now, done)
        if done > before:
            self.each = (now - first) / (done - before)


class Progress:
    """A listener that keeps the stages of one video."""

    def __init__(self, planned: Mapping[str, float], frames: int, clock: Callable[[], float] = time.monotonic):
        """`planned` are seconds of each stage (`plan.cost.seconds`), of which only the proportions are used; `frames`
        is the length of the video.
        """
        self._clock, self._frames = clock, frames
        self._planned = planned["decoding"] / max(planned["denoising"], 1e-9)
        self._denoise, self._decode = _Clock(), _Clock()
        self.encoding: Stage | None = None
        self.denoising: Stage | None = None
        self.decoding: Stage | None = None

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case Encoding(part, done, of):
                self.encoding = Stage(part, done, of)
            case Denoised(done, int(of)):
                if self.encoding:
                    self.encoding = self.encoding._replace(done=self.encoding.of)
                self._denoise.count(self._clock(), done)
                self.denoising = Stage("windows", done, of)
            case Decoded(done, int(of)):
                self._decode.count(self._clock(), done)
                self.decoding = Stage("frames", done, of)

    @property
    def left(self) -> float | None:
        """Seconds that are left, about; None as long as nothing is known of them.

        In the wavefront windows are denoised between frames, whose pace has both in it.
        """
        windows, frames = self.denoising, self.decoding
        if frames and self._decode.each is not None:
            return (self._frames - frames.done) * self._decode.each
        if windows is None or self._denoise.each is None:
            return None
        return (windows.of - windows.done + self._planned * windows.of) * self._denoise.each
