"""Options of clips and windows. A machine that only trains on records reads them too, without PyAV and Pillow."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stableavatar_jax.errors import Mistake

OnBad = Literal["error", "skip"]
MissingMasks = Literal["error", "skip", "ones"]


@dataclass(frozen=True, kw_only=True)
class ClipWindow:
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


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """What the autoencoder sees of a clip."""

    frames: int = 1
    """Video frames in a row, 4n + 1; 1 for pictures."""
    size: int = 48
    """Rows and columns, a multiple of 8; no larger than the clips."""
    on_lips: float = 0.5
    """Share of the crops that lie around the lips; the others lie anywhere."""
    cache: float = 4.0
    """Gigabytes of decoded pictures that are kept in memory; what does not fit is decoded each time."""

    def __post_init__(self):
        if self.frames < 1 or self.frames % 4 != 1:
            raise Mistake(f"frames is {self.frames}, 4n + 1 is needed: the VAE takes 4 to a latent after the first")
        if self.size < 8 or self.size % 8:
            raise Mistake(f"size is {self.size}, a multiple of 8 is needed: the VAE takes 8 to a latent")
        if not 0 <= self.on_lips <= 1:
            raise Mistake(f"on_lips is {self.on_lips}, a share of 0 to 1 is needed")


@dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """What the audio encoder hears of a clip."""

    frames: int = 33
    """Video frames of a window, 4n + 1; those of the DiT's windows, because features depend on all of their window."""
    speed: tuple[float, float] = (0.9, 1.12)
    """How much faster a window is played, and so how much higher, at least and at most."""
    disturbed: float = 0.8
    """Share of windows that get noise, rooms, filters and such (`data.sounds`)."""
    ending: float = 0.1
    """Share of windows in which the sound ends, as the last of a recording does."""
    phonemes: int = 64
    """Classes of phonemes: silence, the most frequent first letters, and one for the rest."""

    def __post_init__(self):
        if self.frames < 5 or self.frames % 4 != 1:
            raise Mistake(f"frames is {self.frames}, 4n + 1 and at least 5 is needed")
        if not 0 < self.speed[0] <= self.speed[1]:
            raise Mistake(f"speed is {self.speed}, two values above 0 are needed, the lower first")
        if min(self.disturbed, self.ending) < 0 or max(self.disturbed, self.ending) > 1 or self.phonemes < 3:
            raise Mistake("disturbed and ending are shares of 0 to 1; phonemes is 3 or more")


@dataclass(frozen=True, kw_only=True)
class PictureConfig:
    """What the image encoder sees of a clip."""

    frames: int = 4
    """Frames of a clip, evenly spaced, of which one is drawn each time; all are kept in memory."""
    shift: int = 6
    """Pixels by which a picture is moved at most, each way; its edge is repeated."""
    light: float = 0.15
    """Largest change of brightness, contrast and each colour: 0.15 is 15 per cent of what there is."""

    def __post_init__(self):
        if self.frames < 1 or self.shift < 0 or not 0 <= self.light < 1:
            raise Mistake("frames 1 or more, shift 0 or more, and light 0 to below 1 are needed")
