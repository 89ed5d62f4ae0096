"""A clip as it is stored: pictures, sound and masks still encoded, with what a window of it needs to know.

Clips come from files (`layouts.py`), and from the data set built of them (`dataset.py`).
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.data.config import Kind
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.shapes import Float

PROMPTS: dict[str, str] = {
    "talking": "The protagonist is talking",
    "singing": "The protagonist is singing",
    "dancing": "The protagonist is simultaneously dancing and singing",
}
"""The prompt of each kind of clip, as released."""

MAKE_MASKS = "make them with `python -m stableavatar_jax.data prepare`, or pass --missing-masks skip or ones"
"""What to do where masks are missing."""

SOUND_SLACK = 0.25
"""Seconds by which a clip's sound may be longer or shorter than its pictures; codecs pad less than this."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A whole clip, encoded. Its pictures are one video, or one file each."""

    id: str
    """Its path within the source, which names it everywhere."""
    kind: Kind
    fps: float
    frames: int
    height: int
    width: int
    """Pixels of its pictures."""
    sound_rate: int
    """Samples a second of its own sound."""
    video: bytes = b""
    images: tuple[bytes, ...] = ()
    face_masks: tuple[bytes, ...] = ()
    lip_masks: tuple[bytes, ...] = ()
    """One picture of one channel a frame, white where the face or the lips are; empty where it is missing."""
    sound: bytes = b""
    """A sound file; empty where the sound is that of the video."""
    prompt: str = ""
    """What the text encoder reads in place of its kind's prompt; empty where that is what it reads."""
    labels: str = ""
    """What is known of it besides, as JSON; empty where nothing is."""

    @property
    def text(self) -> str:
        """What the text encoder reads."""
        return self.prompt or PROMPTS[self.kind]

    @cached_property
    def samples(self) -> Float[np.ndarray, "S"]:
        """Its sound at 16 kHz, the mean of its channels. Raises Mistake where there is none."""
        return media.read_sound(Path(self.id), data=self.sound or self.video)

    @cached_property
    def masks_missing(self) -> int:
        """How many of its 2 * frames masks are not there, or are damaged."""
        return 2 * self.frames - sum(map(_is_whole, self.face_masks)) - sum(map(_is_whole, self.lip_masks))

    def pictures(self, numbers: Sequence[int]) -> list[Image.Image]:
        """The RGB pictures of these frames, in any order and with repeats."""
        if self.images:
            opened = {n: open_image(self.images[n], f"{self.id}: picture {n}").convert("RGB") for n in set(numbers)}
        else:
            opened = {}
            for n, frame in enumerate(media.read_video(Path(self.id), self.video)):
                if n in numbers:
                    opened[n] = Image.fromarray(frame)
                if n >= max(numbers):
                    break
        if lost := set(numbers) - opened.keys():
            raise Mistake(f"{self.id}: frame {min(lost)} cannot be decoded, there are {self.frames}; export it again")
        return [opened[n] for n in numbers]

    def mask(self, part: Literal["face_masks", "lip_masks"], number: int) -> Image.Image:
        """The face or lip mask of a frame. Raises Mistake where it is missing or unreadable."""
        data = getattr(self, part)[number]
        if not data:
            self.check_masks()
        try:
            return open_image(data, f"{self.id}: {part}, frame {number}")
        except Mistake as error:
            raise Mistake(str(error), "missing masks") from error

    def check(self) -> None:
        """Raise Mistake unless its pictures are whole, and there is sound as long as they are."""
        for number, image in enumerate(self.images):  # a video was decoded to count its frames
            if not _is_whole(image):
                raise Mistake(f"{self.id}: picture {number} is damaged; copy it again")
        seconds, needed = len(self.samples) / SAMPLE_RATE, self.frames / self.fps
        if abs(seconds - needed) > SOUND_SLACK:
            raise Mistake(
                f"{self.id}: its sound lasts {seconds:.2f} s and its {self.frames} frames {needed:.2f} s; "
                "cut both to one length, or check the frame rate",
                "sound of another length",
            )

    def check_masks(self) -> None:
        """Raise Mistake where a mask is missing."""
        if self.masks_missing:
            raise Mistake(
                f"{self.id}: {self.masks_missing} of {2 * self.frames} face and lip masks are missing or damaged; "
                f"{MAKE_MASKS}",
                "missing masks",
            )


def open_image(data: bytes, name: str) -> Image.Image:
    """A picture from memory, decoded. Raises Mistake with the name where it is none or damaged."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Exception as error:  # each format's decoder has its own
        raise Mistake(f"{name} is not a readable picture ({error}); copy it again") from error
    return image


def _is_whole(data: bytes) -> bool:
    """Whether it is a picture with right checksums, as far as its format has any (PNG does); nothing is decoded."""
    try:
        Image.open(io.BytesIO(data)).verify()
    except Exception:
        return False
    return True
