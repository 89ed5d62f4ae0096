"""Whether a character keeps its looks, and keeps moving, in a long video."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stableavatar_jax import media
from stableavatar_jax.compiling import keep_compiled
from stableavatar_jax.evaluation import gates, video
from stableavatar_jax.evaluation.config import Drift
from stableavatar_jax.evaluation.report import finish
from stableavatar_jax.evaluation.sheet import tile
from stableavatar_jax.evaluation.video import Frames
from stableavatar_jax.world.align import find_poses
from stableavatar_jax.world.build import make_clip
from stableavatar_jax.world.config import FPS, BuildWorldConfig
from stableavatar_jax.world.correlation import correlation
from stableavatar_jax.world.draw import Pose
from stableavatar_jax.world.identity import COLOURS, LIMITS, Look, look
from stableavatar_jax.world.known import Known, read_known
from stableavatar_jax.world.measure import mouth_opening

EYES = 0.4
"""How far above the point about which a head tilts its motion is looked at, in shares of the picture's width."""
EVERY = 2
"""Frames from one in which the look is measured to the next."""
STRIP = 12
"""Frames of each stretch on the sheet."""


def judge(config: Drift) -> int:
    """Make the video, measure, print, write; returns 1 where a gate is missed."""
    keep_compiled()
    sample = config.sample
    world = BuildWorldConfig(
        output=config.output, split="test", characters=config.number + 1, seconds=config.seconds,
        size=sample.frame.height,
    )  # fmt: skip
    known = read_known(make_clip(world, config.number))
    frames = video.talk(sample, known.picture, known.clip.samples, sample.inputs.prompt)
    width = round(config.stretch * FPS)
    stretches = measure_stretches(frames, known, width)
    strips = [frames[start : start + width : math.ceil(width / STRIP)] for start in _starts(len(frames), width)]
    media.write_picture(config.output / "sheet.png", tile(strips))
    rows = {f"{place * config.stretch:.0f} s": row for place, row in enumerate(stretches)}
    about = {"checkpoint": str(sample.weights.checkpoint), "seconds": config.seconds, "character": known.character.seed}
    return finish(config.output, rows, worst(stretches), gates.DRIFT, about)


def measure_stretches(frames: Frames, known: Known, length: int) -> list[dict[str, float]]:
    """Measures of each stretch of so many frames.

    `change` and `distance` are how far the look is from that of the first second and from the true character, in units
    of `identity.LIMITS`, for the feature that is farthest off; `colours` is the largest change of a colour in CIELAB;
    `mouth_moves` the range of the mouth's opening without a tenth of the frames; `head_moves` the distance of the eyes
    from their mean place in pixels; `r` is against the truth.
    """
    seen = look(frames[::EVERY], known.character)
    opening = mouth_opening(frames, known.character).opening
    poses = find_poses(frames, known.character)
    start = {name: values[: max(1, FPS // EVERY)].mean(0) for name, values in seen.seen.items()}
    rows = []
    for first in _starts(len(frames), length):
        stretch = slice(first, first + length)
        now = {name: values[first // EVERY : (first + length) // EVERY].mean(0) for name, values in seen.seen.items()}
        off = {name: float(np.linalg.norm(now[name] - start[name])) for name in now}
        rows.append({
            "change": max(value / LIMITS[name] for name, value in off.items()),
            "distance": _distance(Look(seen={name: value[None] for name, value in now.items()}, own=seen.own)),
            "colours": max(value for name, value in off.items() if name in COLOURS),
            "mouth_moves": float(np.subtract(*np.percentile(opening[stretch], (95, 5)))),
            "head_moves": head_motion(poses[stretch], frames.shape[1]),
            "r": correlation(opening[stretch], known.mouth.opening[stretch]).r,
        })  # fmt: skip
    return rows


def worst(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The largest change of any stretch and the least motion; r in the mean."""
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    pick: dict[str, Callable[..., Any]] = {"mouth_moves": np.min, "head_moves": np.min, "r": np.mean}
    return {name: float(pick.get(name, np.max)(column)) for name, column in columns.items()}


def head_motion(poses: Sequence[Pose], size: int) -> float:
    """Root mean square distance of the eyes from their mean place, in pixels."""
    eyes = np.array([(pose.x + EYES * math.sin(math.radians(pose.roll)), pose.y) for pose in poses]) * size
    return float(np.sqrt(np.square(eyes - eyes.mean(0)).sum(1).mean()))


def _distance(seen: Look) -> float:
    return max(float(np.linalg.norm(seen.seen[name] - seen.own[name])) / LIMITS[name] for name in seen.seen)


def _starts(frames: int, length: int) -> range:
    """First frames of the whole stretches."""
    return range(0, frames - length + 1, length)
