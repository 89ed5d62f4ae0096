"""Where a known character's head is in pictures of it, and the pictures with the head moved back to its place."""

import dataclasses
import math

import numpy as np
from PIL import Image
from scipy import ndimage

from stableavatar_jax.shapes import Float, UInt8
from stableavatar_jax.world.character import Character
from stableavatar_jax.world.draw import Pose, masks, render
from stableavatar_jax.world.face import tilt_point

STEPS = {"x": 0.006, "y": 0.006, "roll": 1.0}
"""Differences by which derivatives are taken: about half a pixel."""
ITERATIONS = 3
TOLERATED = 25.0
"""Levels of grey; pixels that differ by more have less weight, as do eyes that blink."""


def find_poses(frames: UInt8[np.ndarray, "T H W 3"], character: Character) -> list[Pose]:
    """Shift and roll of the head in every frame, by least squares on all but the mouth; the rest is at rest.

    A frame is searched from the pose of the one before, so a head must not jump. Frames are square.
    """
    size = frames.shape[1]
    away_from_mouth = 1 - masks(character, Pose(), size)[1][..., None] / 255.0
    poses, pose = [], Pose()
    for frame in frames:
        seen = blur(frame)
        for _ in range(ITERATIONS):
            pose = _improved(seen, character, pose, away_from_mouth)
        poses.append(pose)
    return poses


def straighten(frame: UInt8[np.ndarray, "H W 3"], character: Character, pose: Pose) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with the head of this pose moved to where it is at rest; what is not head moves along."""
    size = len(frame)
    angle, (x, y) = math.radians(pose.roll), tilt_point(character)
    cos, sin = math.cos(angle), math.sin(angle)
    right, down = size * (x + pose.x - cos * x + sin * y), size * (y + pose.y - sin * x - cos * y)
    image = Image.fromarray(frame)
    matrix = (cos, -sin, right, sin, cos, down)  # from places at rest to those in the frame
    return np.asarray(image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC))


def blur(picture: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """Softened over about three pixels, so that edges that are a little apart still overlap."""
    out = picture.astype(np.float32)
    for axis in (0, 0, 1, 1):
        out = ndimage.correlate1d(out, (0.25, 0.5, 0.25), axis=axis, mode="nearest")
    return out


def _improved(
    seen: Float[np.ndarray, "H W 3"], character: Character, pose: Pose, weight: Float[np.ndarray, "H W 1"]
) -> Pose:
    """One step of Gauss and Newton from a pose."""
    size = len(seen)
    expected = blur(render(character, pose, size))
    moved = [dataclasses.replace(pose, **{name: getattr(pose, name) + step}) for name, step in STEPS.items()]
    slopes = np.stack([blur(render(character, other, size)) - expected for other in moved], -1)
    off = seen - expected
    trust = weight / (1 + np.square(off.mean(-1, keepdims=True) / TOLERATED))
    normal = np.einsum("hwci,hwcj,hwk->ij", slopes, slopes, trust, optimize=True)
    push = np.einsum("hwci,hwc,hwk->i", slopes, off, trust, optimize=True)
    move = np.linalg.solve(normal + 1e-3 * np.trace(normal) * np.eye(3), push).clip(-2, 2)
    steps = zip(STEPS.items(), move.tolist(), strict=True)
    return dataclasses.replace(pose, **{name: getattr(pose, name) + times * step for (name, step), times in steps})
