"""Options of clips and windows. A machine that only trains on records reads them too, without PyAV and Pillow."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stableavatar_jax.errors import Mistake

OnBad = Literal["error", "skip"]
MissingMasks = Literal["error", "skip", "ones"]


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """What a training window is. The defaults are the release's, but for `fit`."""

    frames: int = 81
    """Video frames of a window, 4n + 1."""
    stride: int = 1
    """Every how many-th frame of the clip is taken."""
    sizes: tuple[tuple[int, int], ...] = ((512, 512), (480, 832), (832, 480))
    """Rows and columns; a clip takes those nearest to its own proportions. Multiples of 16."""
    fit: Literal["cover", "stretch"] = "cover"
    """How a clip is fitted to its size: `cover` crops what sticks out, `stretch` distorts (the release)."""
    reference: Literal["window", "clip", "any"] = "window"
    """The reference picture: the first frame of the `window` (the release), the first of its `clip`, or `any` of the
    clip. With the last two a window far into a video need not begin with the head where the picture has it."""

    def __post_init__(self):
        if self.frames < 5 or self.frames % 4 != 1:
            raise Mistake(f"frames is {self.frames}, 4n + 1 and at least 5 is needed: the VAE takes 4 to a latent")
        if self.stride < 1:
            raise Mistake(f"stride is {self.stride}, at least 1 is needed")
        bad = [size for size in self.sizes if min(size) < 16 or size[0] % 16 or size[1] % 16]
        if bad or not self.sizes:
            raise Mistake(f"sizes has {bad or 'no entry'}; rows and columns must be multiples of 16")

    @property
    def span(self) -> int:
        """Frames of the clip from the window's first to its last."""
        return (self.frames - 1) * self.stride + 1

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """The size nearest to these proportions, by ratio; the first of equals."""
        return min(self.sizes, key=lambda size: abs(np.log(size[0] * width / (size[1] * height))))

    def samples(self, fps: float) -> int:
        """Sound samples of a window at 16 kHz."""
        from stableavatar_jax.frames import SAMPLE_RATE

        return round(self.span / fps * SAMPLE_RATE)
