"""The mouth seen in pictures of a known character, by its shape, and the likeness of two curves."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Float, UInt8
from stableavatar_jax.world.align import blur, find_poses, straighten
from stableavatar_jax.world.character import Character
from stableavatar_jax.world.draw import Pose, masks, render
from stableavatar_jax.world.mouth import Mouth, closures
from stableavatar_jax.world.speech import Phoneme

OPENINGS = np.linspace(0, 1, 12)
WIDTHS = np.linspace(0, 1, 5)
CONTRAST = (0.4, 1.6)
"""How much paler or stronger than the renderer's a mouth may be and still fit."""


FLAT = 0.1
"""A curve that moves by less in all is flat: a mouth that only grows darker is measured to move by up to 0.09."""


class Correlation(NamedTuple):
    """How alike two curves are."""

    r: float
    """Pearson's, at the lag where it is highest; 0 where a curve is flat."""
    lag: int
    """Frames by which the first comes after the second."""


def mouth_opening(frames: UInt8[np.ndarray, "T H W 3"], character: Character) -> Mouth:
    """Opening and width of the mouth in every frame, by the best match among renders of this character.

    The head is moved back to its place first (`align`). Renders are compared in the lips' region, up to a shift of
    each colour and to a contrast within `CONTRAST`: a darker mouth does not count as a wider one.
    """
    size = frames.shape[1]
    lips = masks(character, Pose(), size)[1] > 127
    shapes = (Pose(opening=opening, width=width) for opening in OPENINGS.tolist() for width in WIDTHS.tolist())
    bank = _centred(np.stack([blur(render(character, shape, size))[lips] for shape in shapes]))
    found = []
    for frame, pose in zip(frames, find_poses(frames, character), strict=True):
        seen = _centred(blur(straighten(frame, character, pose))[lips][None])[0]
        contrast = np.clip((bank @ seen) / np.square(bank).sum(1), *CONTRAST)
        error = np.square(seen - contrast[:, None] * bank).sum(1).reshape(len(OPENINGS), len(WIDTHS))
        row, column = np.unravel_index(error.argmin(), error.shape)
        found.append((_lowest(OPENINGS, error[:, column], int(row)), _lowest(WIDTHS, error[row], int(column))))
    opening, width = np.array(found, np.float32).T
    return Mouth(opening, width)


def correlation(a: Float[np.ndarray, "T"], b: Float[np.ndarray, "S"], max_lag: int = 0) -> Correlation:
    """The highest correlation of two curves in 0..1 over lags of up to `max_lag` frames either way."""
    if len(a) != len(b) or len(a) <= max_lag + 1:
        raise Mistake(f"curves of {len(a)} and {len(b)} frames; both must have one length, above max_lag + 1")
    found = []
    for lag in sorted(range(-max_lag, max_lag + 1), key=abs):
        first, second = a[max(0, lag) : len(a) + min(0, lag)], b[max(0, -lag) : len(b) + min(0, -lag)]
        flat = min(np.ptp(first), np.ptp(second)) < FLAT
        found.append(Correlation(0.0 if flat else float(np.corrcoef(first, second)[0, 1]), lag))
    return max(found, key=lambda one: one.r)


def shut_at(
    phonemes: Sequence[Phoneme], opening: Float[np.ndarray, "T"], fps: int | float = 25
) -> Float[np.ndarray, "closures"]:
    """The least opening during every meeting of the lips (p b m), in frames that it touches; NaN past the end."""
    found = []
    for start, end in closures(phonemes):
        seen = opening[int(start * fps) : int(end * fps) + 1]
        found.append(seen.min() if len(seen) else np.nan)
    return np.array(found, np.float32)


def lip_psnr(
    frames: UInt8[np.ndarray, "T H W 3"],
    truth: UInt8[np.ndarray, "T H W 3"],
    lip_masks: Float[np.ndarray, "T H W"],
) -> float:
    """Decibels between two videos in the lips' region (`lip_masks` 0..1), over all frames together."""
    squared = np.square(frames.astype(np.float32) - truth.astype(np.float32)).mean(-1)
    error = float((squared * lip_masks).sum() / lip_masks.sum())
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def _centred(pixels: Float[np.ndarray, "N P 3"]) -> Float[np.ndarray, "N Q"]:
    """Pixels as rows, without the mean of each colour."""
    return (pixels - pixels.mean(1, keepdims=True)).reshape(len(pixels), -1)


def _lowest(places: Float[np.ndarray, "K"], errors: Float[np.ndarray, "K"], best: int) -> float:
    """Where the parabola through the best of evenly spaced places and its neighbours is lowest."""
    if not 0 < best < len(places) - 1:
        return float(places[best])
    before, at, after = errors[best - 1 : best + 2]
    bend = before - 2 * at + after
    return float(places[best] + (places[1] - places[0]) * (0.5 * (before - after) / bend if bend > 0 else 0))
