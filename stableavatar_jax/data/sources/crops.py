"""Square pieces of clips as training batches of the video autoencoder, their pictures decoded once and kept."""

import threading
from typing import Any

import numpy as np

from stableavatar_jax.data.clips.clip import Clip
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.config import CropConfig
from stableavatar_jax.data.order import Batch
from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Bool, UInt8


class DecodedClips:
    """Frames and masks of clips, decoded when they are first asked for and then kept, as far as there is room."""

    def __init__(self, clips: ClipDataset, gigabytes: float):
        self.clips, self.room = clips, gigabytes * 1e9
        self._kept: dict[int, tuple[np.ndarray, ...]] = {}
        self._lock = threading.Lock()

    def read(
        self, number: int, start: int, frames: int
    ) -> tuple[UInt8[np.ndarray, "T H W 3"], Bool[np.ndarray, "T H W"], Bool[np.ndarray, "T H W"]]:
        """Pixels, face and lip mask of some frames of a clip. Raises Mistake where they cannot be read."""
        if number in self._kept:
            pixels, face, lips = (part[start : start + frames] for part in self._kept[number])
        else:
            clip = self.clips[number]
            keep = clip.frames * clip.height * clip.width * (3 + 2 / 8) < self.room
            pixels, face, lips = decode(clip, *((0, clip.frames) if keep else (start, frames)))
            if keep:
                with self._lock:
                    if number not in self._kept:
                        self._kept[number] = pixels, face, lips
                        self.room -= pixels.nbytes + face.nbytes + lips.nbytes
                pixels, face, lips = (part[start : start + frames] for part in (pixels, face, lips))
        width = pixels.shape[2]
        whole = lambda mask: np.unpackbits(mask, axis=-1, count=width).astype(bool)  # noqa: E731
        return pixels, whole(face), whole(lips)


def decode(clip: Clip, start: int, frames: int) -> tuple[np.ndarray, ...]:
    """Pixels [T, H, W, 3], face and lip mask [T, H, W / 8], a bit a pixel, of some frames of a clip."""
    numbers = range(start, start + frames)
    pixels = np.stack([np.asarray(picture) for picture in clip.pictures(numbers)])
    masks = []
    for part in ("face_masks", "lip_masks"):
        drawn = [np.asarray(clip.mask(part, n).convert("L")) >= 128 for n in numbers]  # type: ignore[arg-type]
        if drawn[0].shape != pixels.shape[1:3]:
            raise Mistake(f"{clip.id}: its {part} are of {drawn[0].shape}, its pictures of {pixels.shape[1:3]}")
        masks.append(np.packbits(np.stack(drawn), axis=-1))
    return pixels, *masks


class CropSource:
    """A crop of each clip, its frames and place drawn anew in every epoch. A `Source` of batches.

    Arrays of an item: `video` uint8 [T, S, S, 3], `face_mask` and `lip_mask` bool [T, S, S].
    """

    def __init__(self, clips: ClipDataset, config: CropConfig, tally: Tally | None = None):
        """Clips that are too short or too small are refused by the tally (default: an error)."""
        self.config, self.tally = config, tally or Tally()
        self.clips, self.decoded = clips, DecodedClips(clips, config.cache)
        self.numbers: list[int] = []
        """Numbers of the clips that are used."""
        for number, entry in enumerate(clips.entries):
            if entry["frames"] >= config.frames and min(entry["height"], entry["width"]) >= config.size:
                self.numbers.append(number)
                continue
            self.tally.refuse(
                Mistake(
                    f"{entry['id']}: {entry['frames']} frames of {entry['height']}x{entry['width']}, a crop needs "
                    f"{config.frames} of {config.size}x{config.size}; crop less",
                    "too small",
                )
            )

    @property
    def buckets(self) -> list[tuple[Any, ...]]:
        """All crops have one shape."""
        return [(self.config.frames, self.config.size)] * len(self.numbers)

    def read(self, item: int, rng: np.random.Generator) -> Batch:
        """A crop of a clip, at random."""
        number, size = self.numbers[item], self.config.size
        start = int(rng.integers(self.clips.entries[number]["frames"] - self.config.frames, endpoint=True))
        pixels, face, lips = self.decoded.read(number, start, self.config.frames)
        around = lips.max(0) & (rng.random() < self.config.on_lips)
        top, left = crop_corner(around, size, rng)
        place = np.s_[:, top : top + size, left : left + size]
        return {"video": pixels[place], "face_mask": face[place], "lip_mask": lips[place]}


def crop_corner(around: Bool[np.ndarray, "H W"], size: int, rng: np.random.Generator) -> tuple[int, int]:
    """Where a square crop begins: anywhere, or about the middle of what is marked, off by up to a quarter."""
    corner = []
    for length, marked in zip(around.shape, (np.flatnonzero(around.any(axis)) for axis in (1, 0)), strict=True):
        room, drawn = length - size, rng.random()
        middle = marked.mean() - size / 2 + (drawn - 0.5) * size / 2 if marked.size else drawn * (room + 1) - 0.5
        corner.append(int(np.clip(np.rint(middle), 0, room)))
    return corner[0], corner[1]
