"""The mouth seen in pictures of a known character, by its shape."""

from collections.abc import Sequence

import numpy as np

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


def mouth_opening(
    frames: UInt8[np.ndarray, "T H W 3"], character: Character, poses: Sequence[Pose] | None = None
) -> Mouth:
    """Opening and width of the mouth in every frame, by the best match among renders of this character.

    The head is moved back to its place first, from the `poses` of `align.find_poses`. Renders are compared in the lips'
    region, up to a shift of each colour and to a contrast within `CONTRAST`: a darker mouth does not count as a wider
    one.
    """
    size = frames.shape[1]
    lips = masks(character, Pose(), size)[1] > 127
    shapes = (Pose(opening=opening, width=width) for opening in OPENINGS.tolist() for width in WIDTHS.tolist())
    bank = _centred(np.stack([blur(render(character, shape, size))[lips] for shape in shapes]))
    found = []
    poses = find_poses(frames, character) if poses is None else poses
    for frame, pose in zip(frames, poses, strict=True):
        seen = _centred(blur(straighten(frame, character, pose))[lips][None])[0]
        contrast = np.clip((bank @ seen) / np.square(bank).sum(1), *CONTRAST)
        error = np.square(seen - contrast[:, None] * bank).sum(1).reshape(len(OPENINGS), len(WIDTHS))
        row, column = np.unravel_index(error.argmin(), error.shape)
        found.append((_lowest(OPENINGS, error[:, column], int(row)), _lowest(WIDTHS, error[row], int(column))))
    opening, width = np.array(found, np.float32).T
    return Mouth(opening, width)


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
