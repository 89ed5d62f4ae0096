"""Whether a character keeps its looks: its colours and proportions in pictures, against those it is drawn with."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stableavatar_jax import media
from stableavatar_jax.shapes import Bool, Float, UInt8
from stableavatar_jax.world.align import blur, find_poses, straighten
from stableavatar_jax.world.character import Character
from stableavatar_jax.world.draw import Pose, masks, render

COLOURS = ("skin", "hair_colour", "cloth", "backdrop")
"""Fields of a character that are the colour of some part of the picture."""
RESTING = ("cloth", "backdrop")
"""Those that do not move with the head."""
LENGTHS = ("head_width", "head_height", "eye_gap")
"""Fields of a character that are lengths."""
LIMITS = {name: 8.0 for name in COLOURS} | {name: 0.05 for name in LENGTHS}
"""What changes by less is the same character: colours in CIELAB units (2.3 is just noticed), lengths in shares."""
SMALLEST = 12
"""Pixels of a part at least, to speak of its colour."""
STEP = 0.03
"""Share of a length by which derivatives are taken."""
PASSING = {"x": 0.005, "y": 0.005, "roll": 0.7} | dict.fromkeys(("opening", "blink", "brows", "gaze_x", "gaze_y"), 0.5)
"""What may change besides the lengths, and steps of it."""


class Look(NamedTuple):
    """The features of `LIMITS` as they are seen; a part that is not seen (hair of the bald) is left out."""

    seen: dict[str, Float[np.ndarray, "T K"]]
    """In every frame: colours in CIELAB, lengths in shares of what the character is drawn with."""
    own: dict[str, Float[np.ndarray, "K"]]
    """What they are where the character is drawn."""


def look(
    frames: UInt8[np.ndarray, "T H W 3"], character: Character, poses: Sequence[Pose] | None = None
) -> Look:
    """What a character looks like in every frame; `poses` are those of `align.find_poses`.

    Lengths are by least squares on derivatives of the renderer, so far-off values say no more than that they are far
    off.
    """
    size = frames.shape[1]
    poses = find_poses(frames, character) if poses is None else poses
    straight = [straighten(frame, character, pose) for frame, pose in zip(frames, poses, strict=True)]
    rest = render(character, Pose(), size)
    seen, own = {}, {}
    for name, part in _parts(character, size).items():
        means = [picture[part].mean(0) for picture in (frames if name in RESTING else straight)]
        seen[name], own[name] = media.cielab(np.array(means)), media.cielab(rest[part].mean(0))
    changes = np.array([_lengths(frame, character, pose) for frame, pose in zip(frames, poses, strict=True)])
    lengths = {name: 1 + changes[:, i : i + 1] for i, name in enumerate(LENGTHS)}
    return Look(seen | lengths, own | {name: np.ones(1) for name in LENGTHS})


def identity(frames: UInt8[np.ndarray, "T H W 3"], character: Character) -> dict[str, Float[np.ndarray, "T"]]:
    """How far each feature of `LIMITS` is from the character's own in every frame, in its units, 0 or more."""
    seen, own = look(frames, character)
    return {name: np.linalg.norm(values - own[name], axis=-1) for name, values in seen.items()}


def identity_distance(features: dict[str, Float[np.ndarray, "T"]]) -> Float[np.ndarray, "T"]:
    """The feature that is farthest off in every frame, in units of its limit: below 1 it is the same character."""
    return np.max([values / LIMITS[name] for name, values in features.items()], axis=0)


def _parts(character: Character, size: int) -> dict[str, Bool[np.ndarray, "H W"]]:
    """Where each colour is seen while head and mouth move: inside of where the picture changes as the colour does."""
    rest = render(character, Pose(), size).astype(int)
    mouth = masks(character, Pose(), size)[1] > 0
    found = {}
    for name in COLOURS:
        other = dataclasses.replace(character, **{name: _opposite(getattr(character, name))})
        change = np.abs(render(other, Pose(), size).astype(int) - rest).sum(-1)
        inside = _shrunk((change > 0.5 * max(30, change.max())) & ~mouth, size // 24 if name in RESTING else 1)
        if inside.sum() >= SMALLEST:
            found[name] = inside
    return found


def _lengths(frame: UInt8[np.ndarray, "H W 3"], character: Character, pose: Pose) -> Float[np.ndarray, "3"]:
    """How much longer the lengths in a picture are than the character's own, as shares of these."""
    size = len(frame)
    expected = blur(render(character, pose, size))
    longer = [dataclasses.replace(character, **{name: getattr(character, name) * (1 + STEP)}) for name in LENGTHS]
    moved = [dataclasses.replace(pose, **{name: getattr(pose, name) + step}) for name, step in PASSING.items()]
    pictures = [render(other, pose, size) for other in longer] + [render(character, other, size) for other in moved]
    slopes = np.stack([(blur(picture) - expected).ravel() for picture in pictures])
    away = np.repeat(masks(character, pose, size)[1].ravel() == 0, 3)
    slopes, off = slopes[:, away], (blur(frame) - expected).ravel()[away]
    normal = slopes @ slopes.T
    return STEP * np.linalg.solve(normal + 1e-3 * np.diag(np.diag(normal) + 1), slopes @ off)[: len(LENGTHS)]


def _opposite(colour: Any) -> Any:
    """A colour, or several, with every channel far from what it was."""
    return tuple(_opposite(c) if isinstance(c, tuple) else c + 128 if c < 128 else c - 128 for c in colour)


def _shrunk(part: Bool[np.ndarray, "H W"], pixels: int) -> Bool[np.ndarray, "H W"]:
    """The part without so many pixels along its border; the picture's edge is none."""
    for _ in range(pixels):
        around = np.pad(part, 1, mode="edge")
        part = part & around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return part
