"""Clips of the world with their truth, as measurements need them."""

import json
from typing import NamedTuple

import numpy as np
from PIL import Image

from stableavatar_jax.data.clips.clip import Clip
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import evenly
from stableavatar_jax.shapes import Float, UInt8
from stableavatar_jax.words import count
from stableavatar_jax.world.character import Character, draw_character
from stableavatar_jax.world.mouth import Mouth
from stableavatar_jax.world.speech import Phoneme


class Known(NamedTuple):
    """A clip of the world with its truth."""

    clip: Clip
    character: Character
    mouth: Mouth
    phonemes: tuple[Phoneme, ...]

    @property
    def picture(self) -> Image.Image:
        """Its first frame, what a video is made from."""
        return self.clip.pictures([0])[0]

    def frames(self, count: int | None = None) -> UInt8[np.ndarray, "T H W 3"]:
        """Its first pictures, all by default."""
        return np.stack([np.asarray(p) for p in self.clip.pictures(range(count or self.clip.frames))])

    def lips(self, count: int) -> Float[np.ndarray, "T H W"]:
        """Where the lips are in its first pictures, 0 to 1."""
        masks = (self.clip.mask("lip_masks", number).convert("L") for number in range(count))
        return np.stack([np.asarray(mask, np.float32) for mask in masks]) / 255


def read_known(clip: Clip) -> Known:
    """The truth in a clip's labels. Raises Mistake for a clip that the world did not make."""
    if not clip.labels:
        raise Mistake(f"{clip.id}: no labels; make clips with `python -m stableavatar_jax.world build`")
    labels = json.loads(clip.labels)
    mouth = Mouth(*(np.array(labels[name], np.float32) for name in ("opening", "width")))
    phonemes = tuple(Phoneme(*phoneme) for phoneme in labels["phonemes"])
    return Known(clip, draw_character(labels["character"]), mouth, phonemes)


def speaking(clips: ClipDataset, number: int) -> list[Known]:
    """So many clips, evenly spaced over a data set, without those in which nobody speaks.

    Raises Mistake where none is left.
    """
    found = [read_known(clips[place]) for place in evenly(number, len(clips))]
    if not any(known.phonemes for known in found):
        raise Mistake(f"nobody speaks in {count(len(found), 'clip')} looked at; give longer or more clips")
    return [known for known in found if known.phonemes]
