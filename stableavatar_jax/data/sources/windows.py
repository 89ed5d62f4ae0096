"""One training window: some frames in a row out of a clip, with their sound and masks, at one of a few sizes."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.data.clips.clip import Clip
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.config import ClipWindow
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE, evenly
from stableavatar_jax.shapes import Float
from stableavatar_jax.words import count


@dataclass(frozen=True, kw_only=True)
class Window:
    """One window, decoded."""

    id: str
    text: str
    """What the text encoder reads."""
    fps: float
    start: int
    """Its first frame in the clip."""
    pixels: Float[np.ndarray, "T H W 3"]
    """-1..1."""
    reference: Float[np.ndarray, "H W 3"]
    """The picture of the person, -1..1."""
    face_mask: Float[np.ndarray, "T H W"]
    lip_mask: Float[np.ndarray, "T H W"]
    """0..1, not binary: resizing softens their edges."""
    sound: Float[np.ndarray, "S"]
    """16 kHz, zero mean and unit variance."""


def frame_indices(frames: int, start: int, window: int, stride: int = 1) -> list[int]:
    """Frames of a window as the release takes them: evenly from `start` over what the clip of `frames` has.

    In a clip shorter than the window frames repeat.
    """
    length = clip_length(frames, window, stride)
    return np.linspace(start, start + length - 1, window).astype(int).tolist()


def clip_length(frames: int, window: int, stride: int = 1) -> int:
    """Frames of the clip that a window reaches over; a shorter clip as a whole. It may start at 0..frames - this."""
    return min(frames, (window - 1) * stride + 1)


def sound_range(start: int, length: int, fps: float) -> tuple[int, int]:
    """First sample, and the one after the last, of `length` frames from `start` (float64 in the release's order)."""
    rate = SAMPLE_RATE
    return int(start / fps * rate), int((length / fps + start / fps) * rate)


def window_starts(frames: int, config: ClipWindow, windows: int, rng: np.random.Generator | None = None) -> list[int]:
    """Where up to so many windows of a clip begin: evenly spaced from its first frame to its last, or drawn."""
    room = frames - config.span
    if room < 0:
        return []
    if rng is None:
        return evenly(windows, room + 1)
    return sorted(rng.choice(room + 1, min(windows, room + 1), replace=False).tolist())


def check_window(name: str, frames: int, config: ClipWindow) -> None:
    """Raise Mistake where a clip of so many frames is shorter than a window."""
    if frames < config.span:
        raise Mistake(
            f"{name}: {count(frames, 'frame')}, a window needs {config.span}; take shorter windows "
            "(--frames)",
            "too short",
        )


def read_window(
    clip: Clip,
    start: int,
    *,
    reference: int | None = None,
    frames: int,
    height: int,
    width: int,
    stride: int = 1,
    fit: media.Fit = "cover",
    tally: Tally | None = None,
) -> Window:
    """The window of a clip that begins at frame `start`, decoded and fitted.

    Its reference picture is frame `reference` of the clip; where that is None the window's first, as in the release.
    The sound has the release's length: up to one sample more or less than others of its kind (see `even_length`), and
    it ends where the clip's does. Raises Mistake where a mask is missing or unreadable, unless the tally says that
    those are all ones.
    """
    indices = frame_indices(clip.frames, start, frames, stride)
    first, last = sound_range(start, clip_length(clip.frames, frames, stride), clip.fps)
    reference = indices[0] if reference is None else reference
    wanted = sorted({reference, *indices})
    pictures = dict(zip(wanted, clip.pictures(wanted), strict=True))
    shown = {i: media.fit_picture(picture, height, width, fit) for i, picture in pictures.items()}
    as_ones = tally is not None and tally.missing_masks == "ones"
    masks, filled = {}, 0
    for part in ("face_masks", "lip_masks"):
        fitted = {}
        for i in set(indices):
            try:
                fitted[i] = _fit_mask(clip.mask(part, i), height, width, fit)
            except Mistake:
                if not as_ones:
                    raise
                fitted[i] = np.ones((height, width), np.float32)
                filled += 1
        masks[part] = np.stack([fitted[i] for i in indices])
    if tally and filled:
        tally.fill(clip.id, filled)
    return Window(
        id=clip.id, text=clip.text, fps=clip.fps, start=start,
        pixels=np.stack([shown[i] for i in indices]), reference=shown[reference],
        face_mask=masks["face_masks"], lip_mask=masks["lip_masks"], sound=media.normalise(clip.samples[first:last]),
    )  # fmt: skip


def even_length(sound: Float[np.ndarray, "S"], samples: int) -> Float[np.ndarray, "samples"]:
    """A window's sound at the one length that windows of its frame rate share.

    What is added is 0, the mean: a sample where the start was rounded, up to `SOUND_SLACK` where the sound ends early.
    """
    return np.pad(sound[:samples], (0, max(0, samples - len(sound))))


def _fit_mask(mask: Image.Image, height: int, width: int, fit: media.Fit) -> Float[np.ndarray, "height width"]:
    """A mask fitted like its picture, 0..1 (Pillow's bicubic in 8 bit)."""
    box = media.cover_box(mask.width, mask.height, width / height, 0.5) if fit == "cover" else None
    fitted = media.resized(mask.convert("L"), height, width, box)
    return np.asarray(fitted, np.float32) / np.float32(255)
