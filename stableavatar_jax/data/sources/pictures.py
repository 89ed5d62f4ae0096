"""Single pictures of clips with their prompts as training batches of the image and the text encoder."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stableavatar_jax.data.clips.clip import PROMPTS, Clip
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.data.config import PictureConfig
from stableavatar_jax.data.order import Batch
from stableavatar_jax.media import HALF
from stableavatar_jax.shapes import Bool, Float, Int, UInt8

Tokens = tuple[Int[np.ndarray, "L"], Bool[np.ndarray, "L"]]
"""Token ids of a prompt, and which of them are text."""


class PictureSource:
    """A picture of each clip and its prompt, the frame and its changes drawn anew in every epoch. A `Source`.

    Arrays of an item: `picture` uint8 [H, W, 3], `ids` int32 [L], `text_mask` bool [L].
    """

    def __init__(self, clips: ClipDataset, config: PictureConfig, tokens: Mapping[str, Tokens]):
        """`tokens` are those of every prompt."""
        self.clips, self.config, self.tokens = clips, config, tokens
        self._kept: dict[int, UInt8[np.ndarray, "n H W 3"]] = {}

    @property
    def buckets(self) -> list[tuple[Any, ...]]:
        """Size of each clip's pictures."""
        return [(entry["height"], entry["width"]) for entry in self.clips.entries]

    def read(self, item: int, rng: np.random.Generator) -> Batch:
        """A picture of a clip, at random."""
        pictures = self.pictures(item)
        picture = pictures[rng.integers(len(pictures))]
        picture = shifted(picture, *rng.integers(-self.config.shift, self.config.shift, 2, endpoint=True).tolist())
        return self.item(item, relit(picture, self.config.light, rng))

    def middle(self, item: int) -> Batch:
        """The picture in the middle of those of a clip, unchanged."""
        pictures = self.pictures(item)
        return self.item(item, pictures[len(pictures) // 2])

    def item(self, item: int, picture: UInt8[np.ndarray, "H W 3"]) -> Batch:
        """A picture with its clip's prompt."""
        ids, mask = self.tokens[text_of(self.clips.entries[item])]
        return {"picture": picture, "ids": ids, "text_mask": mask}

    def pictures(self, item: int) -> UInt8[np.ndarray, "n H W 3"]:
        """The pictures of a clip, decoded when it is first asked for. Raises Mistake."""
        if item not in self._kept:  # threads may both decode a clip; they find the same
            self._kept[item] = spread(self.clips[item], self.config.frames)
        return self._kept[item]


def text_of(entry: Mapping[str, Any]) -> str:
    """What the text encoder reads of a clip, by what the index says of it (`Clip.text`)."""
    return entry.get("prompt") or PROMPTS[entry["kind"]]


def spread(clip: Clip, frames: int) -> UInt8[np.ndarray, "n H W 3"]:
    """Pictures of a clip, each from the middle of one of `frames` equal parts."""
    frames = min(frames, clip.frames)
    numbers = [(2 * n + 1) * clip.frames // (2 * frames) for n in range(frames)]
    return np.stack([np.asarray(picture) for picture in clip.pictures(numbers)])


def shifted(picture: UInt8[np.ndarray, "H W 3"], down: int, right: int) -> UInt8[np.ndarray, "H W 3"]:
    """A picture moved by so many pixels, its edge repeated where there was nothing."""
    rows, columns = (
        np.clip(np.arange(length) - by, 0, length - 1)
        for length, by in zip(picture.shape, (down, right), strict=False)
    )
    return picture[rows][:, columns]


def relit(picture: UInt8[np.ndarray, "H W 3"], light: float, rng: np.random.Generator) -> UInt8[np.ndarray, "H W 3"]:
    """A picture with contrast about mid-grey, brightness, and the strength of each colour changed by up to `light`."""
    contrast, brightness, *tint = rng.uniform(-light, light, 5)
    gain = (1 + contrast) * (1 + np.array(tint, np.float32))
    levels = (np.arange(256, dtype=np.float32)[:, None] - HALF) * gain + HALF * (1 + brightness)
    return np.take_along_axis(bytes_of(levels), picture.reshape(-1, 3), axis=0).reshape(picture.shape)


def bytes_of(pixels: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Pixels rounded and cut to 0..255."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
