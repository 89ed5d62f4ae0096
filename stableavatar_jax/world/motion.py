"""What moves besides the mouth: blinks, brows, gaze and a gently moving head, from a seed."""

import dataclasses

import numpy as np

from stableavatar_jax.shapes import Float
from stableavatar_jax.world.face import Pose
from stableavatar_jax.world.mouth import Mouth

SHIFT = 0.04
"""The head moves at most so far from its place, in shares of the picture's width."""
ROLL = 6.0
"""Degrees by which it tilts at most."""
SETTLE = 0.5
"""Seconds in which motion sets in: at frame 0 the pose is neutral but for the mouth."""


def draw_poses(
    mouth: Mouth, energy: Float[np.ndarray, "T"], rng: np.random.Generator, fps: int | float = 25, still: bool = False
) -> tuple[Pose, ...]:
    """A pose for every frame, in numbers of five digits.

    `energy` (0..1, see `speech_energy`) lifts brows and head a little where speech is loud.
    `still` leaves the head where it is, and everything but the mouth at rest.
    """
    frames = len(mouth.opening)
    moving = {field.name: np.zeros(frames) for field in dataclasses.fields(Pose)}
    if not still:
        time = np.arange(frames) / fps
        begun = 1 - np.exp(-((time / SETTLE) ** 2))
        reach = rng.uniform(0.4, 1.0)
        beat = _slow(energy, fps)
        moving |= {
            "x": begun * reach * SHIFT * wave(rng, time),
            "y": begun * reach * SHIFT * (0.5 * wave(rng, time) - 0.5 * beat),
            "roll": begun * reach * ROLL * wave(rng, time),
            "brows": begun * np.clip(0.5 * wave(rng, time) + rng.uniform(0, 0.8) * beat, -1, 1),
            "blink": blinks(rng, frames, fps),
            "gaze_x": begun * glances(rng, frames, fps),
            "gaze_y": begun * 0.5 * glances(rng, frames, fps),
        }
    moving |= {"opening": mouth.opening, "width": mouth.width}
    rows = zip(*(np.round(curve.astype(float), 5).tolist() for curve in moving.values()), strict=True)
    return tuple(Pose(**dict(zip(moving, row, strict=True))) for row in rows)


def wave(rng: np.random.Generator, time: Float[np.ndarray, "T"]) -> Float[np.ndarray, "T"]:
    """Smooth noise in -1..1: three sines with periods of 1.5 to 4 s."""
    share = rng.dirichlet((2, 2, 2))
    period, phase = rng.uniform(1.5, 4.0, 3), rng.uniform(0, 2 * np.pi, 3)
    return np.sin(2 * np.pi * time[:, None] / period + phase) @ share


def blinks(rng: np.random.Generator, frames: int, fps: int | float) -> Float[np.ndarray, "frames"]:
    """0 open to 1 shut: a blink of 4 to 6 frames every 2 to 5 s, none in the first quarter of a second."""
    lid = np.zeros(frames)
    start = rng.uniform(0.25, 4.0) * fps
    while start < frames:
        length = int(rng.integers(4, 7))
        shape = np.sin(np.pi * (np.arange(length) + 0.5) / length)
        first = int(start)
        lid[first : first + length] = (shape / shape.max())[: frames - first]
        start += rng.uniform(2.0, 5.0) * fps
    return lid


def glances(rng: np.random.Generator, frames: int, fps: int | float) -> Float[np.ndarray, "frames"]:
    """-1..1: the eyes rest on a point for 0.8 to 3 s, every second time on the viewer, and jump within two frames."""
    gaze, frame, at_viewer = np.zeros(frames), 0, True
    while frame < frames:
        rest = int(rng.uniform(0.8, 3.0) * fps)
        gaze[frame : frame + rest] = 0.0 if at_viewer else rng.uniform(-0.8, 0.8)
        frame, at_viewer = frame + rest, not at_viewer
    return np.convolve(np.pad(gaze, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid")


def speech_energy(
    samples: Float[np.ndarray, "S"], rate: int, frames: int, fps: int | float = 25
) -> Float[np.ndarray, "T"]:
    """How loud each frame is, 0..1: decibels from 35 below the loudest frame."""
    edges = np.minimum(np.round(np.arange(frames + 1) * rate / fps).astype(int), len(samples))
    total = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    power = (total[edges[1:]] - total[edges[:-1]]) / np.maximum(np.diff(edges), 1)
    level = 10 * np.log10(power + 1e-9)
    return np.clip((level - level.max()) / 35 + 1, 0, 1) * (level.max() > -60)


def _slow(curve: Float[np.ndarray, "T"], fps: int | float) -> Float[np.ndarray, "T"]:
    """Its mean over about a third of a second."""
    reach = round(0.17 * fps)
    kernel = np.hanning(2 * reach + 3)[1:-1]
    return np.convolve(np.pad(curve, reach, mode="edge"), kernel / kernel.sum(), mode="valid")
