"""Video of any length as overlapping windows (paper 3.3): whole numbers, read without JAX."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import FRAMES_PER_LATENT

Fusion = Literal["logarithmic", "linear", "fixed"]


@dataclass(frozen=True)
class WindowPlan:
    """The windows that cover `frames` latent frames: whole, one stride apart, the last may reach past the end.

    `overlap` frames are shared by neighbours: 0, or 2 to window-1 (of a single shared frame the first and the last,
    which take weights 0 and 1, would be the same). Raises ValueError for sizes that cannot be.
    """

    frames: int
    window: int = 21
    overlap: int = 10

    def __post_init__(self):
        if self.frames < 1 or self.window < 1:
            raise Mistake(f"{self.frames} latent frames in windows of {self.window}: both must be at least 1")
        if not (self.overlap == 0 or 2 <= self.overlap < self.window):
            raise Mistake(
                f"overlap {self.overlap} is impossible for windows of {self.window} latent frames: choose 0, or 2 to "
                f"{self.window - 1} (5 to 15 are advised for windows of 21)"
            )

    @property
    def stride(self) -> int:
        """Latent frames from one window's start to the next one's."""
        return self.window - self.overlap

    @property
    def count(self) -> int:
        """Number of windows W."""
        return 1 + max(0, math.ceil((self.frames - self.window) / self.stride))

    @property
    def padded(self) -> int:
        """Latent frames the windows cover; those past `frames` are computed and cut off."""
        return self.window + (self.count - 1) * self.stride

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First latent frame of every window."""
        return tuple(range(0, self.count * self.stride, self.stride))

    @cached_property
    def video_starts(self) -> tuple[int, ...]:
        """Video frame at which the sound of every window starts."""
        return tuple(FRAMES_PER_LATENT * start for start in self.starts)


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How a video is cut into windows and how they are fused and batched."""

    window: int = 21
    """Latent frames the network sees at once."""
    overlap: int = 10
    """Latent frames two neighbouring windows share: 0 (independent windows) or 2 to window-1 (paper: 5 to 15)."""
    fusion: Fusion = "logarithmic"
    """Weights over the shared frames."""
    first_fused_step: int = 0
    """Before this step the later window overwrites the shared frames (the release: 1)."""
    rows: int | None = None
    """Windows evaluated at once: more memory, fewer and larger evaluations (default: 1 in the plain order; in the
    wavefront as many as the device's memory and a tenth of waste allow)."""
    batches: int = 4
    """Micro-batches of `rows` windows one call of the program runs; fewer give finer progress, never other values."""

    def plan(self, frames: int) -> WindowPlan:
        """The windows over so many latent frames."""
        return WindowPlan(frames, self.window, self.overlap)

    @property
    def stride(self) -> int:
        """Latent frames from one window's start to the next one's."""
        return self.window - self.overlap

    def padded(self, count: int) -> int:
        """Latent frames that so many windows cover."""
        return self.window + (count - 1) * self.stride

    @property
    def at_once(self) -> int:
        """Windows evaluated at once."""
        return self.rows or 1

    @property
    def stretch(self) -> tuple[int, int]:
        """Micro-batches and windows of one call; its frames reach at least as far as a tail."""
        batches = max(self.batches, math.ceil(self.overlap / (self.stride * self.at_once)))
        return batches, batches * self.at_once
