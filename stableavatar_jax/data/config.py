"""Options of clips and of what is taken from them; nothing heavy is imported, so that they are parsed at once."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import FRAMES_PER_LATENT, PIXELS_PER_LATENT, SAMPLE_RATE

OnBad = Literal["error", "skip"]
MissingMasks = Literal["error", "skip", "ones"]
Kind = Literal["talking", "singing", "dancing"]
Format = Literal["npz", "array_record"]
Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class ClipWindow:
    """How training windows are cut from clips. The defaults are the release's, except for `fit`."""

    frames: int = 81
    """Number of video frames in a window, 4n + 1."""
    stride: int = 1
    """Step from one frame of the clip to the next one taken; 1 takes every frame."""
    sizes: tuple[tuple[int, int], ...] = ((512, 512), (480, 832), (832, 480))
    """Rows and columns, multiples of 16; each clip gets the size nearest to its own proportions."""
    fit: Literal["cover", "stretch"] = "cover"
    """How a clip is fitted to its size: `cover` crops it, `stretch` distorts it (the release)."""
    reference: Literal["window", "clip", "any"] = "window"
    """The reference picture: the first frame of the `window` (the release), the first of its `clip`, or `any` of the
    clip. With the last two a window far into a video need not begin with the head where the picture has it."""

    def __post_init__(self):
        if self.frames < 5 or self.frames % FRAMES_PER_LATENT != 1:
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
        return round(self.span / fps * SAMPLE_RATE)


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How the autoencoder's training crops are cut from clips."""

    frames: int = 1
    """Number of neighbouring video frames, 4n + 1; 1 for pictures."""
    size: int = 48
    """Rows and columns of a crop, a multiple of 8 and no larger than the clips."""
    on_lips: float = 0.5
    """Share of crops around the lips; the others lie anywhere."""
    cache: float = 4.0
    """Gigabytes of decoded pictures kept in memory; the others are decoded each time."""

    def __post_init__(self):
        if self.frames < 1 or self.frames % FRAMES_PER_LATENT != 1:
            raise Mistake(f"frames is {self.frames}, 4n + 1 is needed: the VAE takes 4 to a latent after the first")
        if self.size < 8 or self.size % PIXELS_PER_LATENT:
            raise Mistake(f"size is {self.size}, a multiple of 8 is needed: the VAE takes 8 to a latent")
        if not 0 <= self.on_lips <= 1:
            raise Mistake(f"on_lips is {self.on_lips}, a share of 0 to 1 is needed")


@dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """How the audio encoder's training windows are made from clips."""

    frames: int = 33
    """Number of video frames in a window, 4n + 1: as many as in the DiT's windows, on which the features depend."""
    speed: tuple[float, float] = (0.9, 1.12)
    """Lowest and highest speed at which a window is played; the pitch rises with it."""
    disturbed: float = 0.8
    """Share of windows with noise, rooms, filters and the like (`data/sources/sounds.py`)."""
    ending: float = 0.1
    """Share of windows whose sound ends early, like the last window of a recording."""
    phonemes: int = 64
    """Number of phoneme classes: silence, the most frequent first letters, and one for all others."""

    def __post_init__(self):
        if self.frames < 5 or self.frames % FRAMES_PER_LATENT != 1:
            raise Mistake(f"frames is {self.frames}, 4n + 1 and at least 5 is needed")
        if not 0 < self.speed[0] <= self.speed[1]:
            raise Mistake(f"speed is {self.speed}, two values above 0 are needed, the lower first")
        if min(self.disturbed, self.ending) < 0 or max(self.disturbed, self.ending) > 1 or self.phonemes < 3:
            raise Mistake("disturbed and ending are shares of 0 to 1; phonemes is 3 or more")


@dataclass(frozen=True, kw_only=True)
class PictureConfig:
    """How the image encoder's training pictures are taken from clips."""

    frames: int = 4
    """Number of evenly spaced frames of a clip that are kept in memory; one is drawn each time."""
    shift: int = 6
    """Largest shift of a picture in pixels, in each direction; the edge is repeated."""
    light: float = 0.15
    """Largest relative change of brightness, contrast and each colour: 0.15 is 15 per cent."""

    def __post_init__(self):
        if self.frames < 1 or self.shift < 0 or not 0 <= self.light < 1:
            raise Mistake("frames 1 or more, shift 0 or more, and light 0 to below 1 are needed")
