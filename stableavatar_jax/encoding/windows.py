"""Windows of clips as training batches, for encoding while training; precomputed records are `records.py`."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from stableavatar_jax.data.clips.clip import PROMPTS, SOUND_SLACK, Clip
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.config import ClipWindow
from stableavatar_jax.data.order import Batch
from stableavatar_jax.data.sources.windows import Window, check_window, even_length, read_window
from stableavatar_jax.diffusion.masks import latent_masks
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import PIXELS_PER_LATENT, SAMPLE_RATE, latent_frames
from stableavatar_jax.media import as_bytes
from stableavatar_jax.shapes import Float


class ClipSource:
    """A window of each clip, begun at a frame drawn anew in every epoch. A `Source` of batches."""

    def __init__(self, clips: ClipDataset, config: ClipWindow, tally: Tally | None = None):
        """Clips too short for a window are refused by the tally (default: an error)."""
        self.clips, self.config = clips, config
        self.prompts = clips.prompts
        """A batch holds the number of its text in here."""
        self.tally = tally or Tally()
        self.numbers: list[int] = []
        """Numbers of the clips that are used."""
        for number, entry in enumerate(clips.entries):
            try:
                check_window(entry["id"], entry["frames"], config)
                self.numbers.append(number)
            except Mistake as error:
                self.tally.refuse(error)

    @property
    def buckets(self) -> list[tuple[Any, ...]]:
        """Rows, columns and sound samples of each clip's windows."""
        entries = (self.clips.entries[number] for number in self.numbers)
        return [(*self.config.size_of(e["height"], e["width"]), self.config.samples(e["fps"])) for e in entries]

    def read(self, item: int, rng: np.random.Generator) -> Batch:
        """A window of a clip, from a random frame."""
        clip = self.clips[self.numbers[item]]
        start = int(rng.integers(clip.frames - self.config.span, endpoint=True))
        return window_arrays(clip_window(clip, start, self.config, rng, self.tally), self.config, self.prompts)


def clip_window(
    clip: Clip, start: int, config: ClipWindow, rng: np.random.Generator, tally: Tally | None = None
) -> Window:
    """The window of a clip at a frame, of the size its proportions ask for; the reference picture may be drawn."""
    height, width = config.size_of(clip.height, clip.width)
    reference = {"window": None, "clip": 0, "any": int(rng.integers(clip.frames))}[config.reference]
    return read_window(
        clip, start, reference=reference, frames=config.frames, height=height, width=width, stride=config.stride,
        fit=config.fit, tally=tally,
    )  # fmt: skip


def window_arrays(window: Window, config: ClipWindow, prompts: Sequence[str] = tuple(PROMPTS.values())) -> Batch:
    """A window as arrays that stack: uint8 pixels [T, H, W, 3] and reference [H, W, 3], face_mask and lip_mask
    [F, h, w], sound [S], prompt.

    The last is the number of its text among `prompts`. Raises Mistake where the clip's sound ends more than
    `SOUND_SLACK` before the window does.
    """
    frames, height, width, _ = window.pixels.shape
    samples = config.samples(window.fps)
    if not len(window.sound) or len(window.sound) < samples - SOUND_SLACK * SAMPLE_RATE:
        raise Mistake(
            f"{window.id}: {len(window.sound)} sound samples for the {samples} of the window at frame {window.start}; "
            "leave the clip out, or cut it to the length of its sound",
            "sound of another length",
        )
    latent = (latent_frames(frames), height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT)
    return {
        "pixels": as_bytes(window.pixels),
        "reference": as_bytes(window.reference),
        "face_mask": _latent_mask(window.face_mask, latent),
        "lip_mask": _latent_mask(window.lip_mask, latent),
        "sound": even_length(window.sound, samples),
        "prompt": np.array(prompts.index(window.text), np.int32),
    }


def _latent_mask(mask: Float[np.ndarray, "T H W"], size: tuple[int, int, int]) -> Float[np.ndarray, "F h w"]:
    return np.asarray(latent_masks(jnp.asarray(mask)[None], size)[0])
