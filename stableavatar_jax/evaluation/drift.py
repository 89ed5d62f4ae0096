"""Whether a character stays itself, and keeps moving, in a long video."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.configs import demo
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation import gates, video
from stableavatar_jax.evaluation.report import finish
from stableavatar_jax.evaluation.sheet import save, tile
from stableavatar_jax.evaluation.video import Frames
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.world.align import find_poses
from stableavatar_jax.world.build import FPS, BuildWorldConfig, make_clip
from stableavatar_jax.world.draw import Pose
from stableavatar_jax.world.identity import COLOURS, LIMITS, Look, look
from stableavatar_jax.world.known import Known, read_known
from stableavatar_jax.world.measure import correlation, mouth_opening

EYES = 0.4
"""How far above the point about which a head tilts its motion is looked at, in shares of the picture's width."""
EVERY = 2
"""Frames from one in which the look is measured to the next."""
STRIP = 12
"""Frames of each part on the sheet."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Make one long video of a held-out character, and measure every part of it against its first second.

    python -m stableavatar_jax.demo drift --seconds 60
    """

    seconds: float = 60.0
    """Of the video."""
    part: float = 5.0
    """Seconds of a part."""
    number: int = 0
    """Of the held-out character; voice and sentences belong to it."""
    sample: SampleConfig = field(default_factory=lambda: demo.config)
    """How videos are made, as in configs/demo.py. Picture and sound are the character's."""
    output: Path = Path("outputs/drift")
    """Folder for report.json and sheet.png, a row for each part."""

    def __post_init__(self):
        if not 1 <= self.part <= self.seconds:
            raise Mistake(f"part is {self.part:g} s; 1 s at least and the {self.seconds:g} s of the video at most")

    def run(self) -> int:
        """Make the video, measure, print, write; returns 1 where a gate is missed."""
        world = BuildWorldConfig(
            output=self.output, split="test", characters=self.number + 1, seconds=self.seconds, size=self.sample.height
        )
        known = read_known(make_clip(world, self.number))
        frames = video.talk(self.sample, known.picture, known.clip.samples, self.sample.prompt)
        parts = measure_parts(frames, known, round(self.part * FPS))
        width = round(self.part * FPS)
        strips = [frames[start : start + width : math.ceil(width / STRIP)] for start in _starts(len(frames), width)]
        save(self.output / "sheet.png", tile(strips))
        rows = {f"{place * self.part:.0f} s": row for place, row in enumerate(parts)}
        about = {"checkpoint": str(self.sample.checkpoint), "seconds": self.seconds, "character": known.character.seed}
        return finish(self.output, rows, worst(parts), gates.DRIFT, about)


def measure_parts(frames: Frames, known: Known, length: int) -> list[dict[str, float]]:
    """For each part of so many frames: how far the look is from that of the first second (`change`) and from the true
    character (`distance`), in units of what is another character (`identity.LIMITS`), the feature that is farthest off;
    `colours`, the largest change of a colour in CIELAB; the range of the mouth's opening without a tenth of the frames
    (`mouth_moves`) and the way of the eyes from their mean place in pixels (`head_moves`); `r` against the truth.
    """
    seen = look(frames[::EVERY], known.character)
    opening = mouth_opening(frames, known.character).opening
    poses = find_poses(frames, known.character)
    start = {name: values[: max(1, FPS // EVERY)].mean(0) for name, values in seen.seen.items()}
    rows = []
    for first in _starts(len(frames), length):
        part = slice(first, first + length)
        now = {name: values[first // EVERY : (first + length) // EVERY].mean(0) for name, values in seen.seen.items()}
        off = {name: float(np.linalg.norm(now[name] - start[name])) for name in now}
        rows.append({
            "change": max(value / LIMITS[name] for name, value in off.items()),
            "distance": _distance(Look(seen={name: value[None] for name, value in now.items()}, own=seen.own)),
            "colours": max(value for name, value in off.items() if name in COLOURS),
            "mouth_moves": float(np.subtract(*np.percentile(opening[part], (95, 5)))),
            "head_moves": head_motion(poses[part], frames.shape[1]),
            "r": correlation(opening[part], known.mouth.opening[part]).r,
        })  # fmt: skip
    return rows


def worst(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The largest change of any part and the least motion; r in the mean."""
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    pick: dict[str, Callable[..., Any]] = {"mouth_moves": np.min, "head_moves": np.min, "r": np.mean}
    return {name: float(pick.get(name, np.max)(column)) for name, column in columns.items()}


def head_motion(poses: Sequence[Pose], size: int) -> float:
    """Root of the mean squared way of a head's eyes from their mean place, in pixels."""
    eyes = np.array([(pose.x + EYES * math.sin(math.radians(pose.roll)), pose.y) for pose in poses]) * size
    return float(np.sqrt(np.square(eyes - eyes.mean(0)).sum(1).mean()))


def _distance(seen: Look) -> float:
    return max(float(np.linalg.norm(seen.seen[name] - seen.own[name])) / LIMITS[name] for name in seen.seen)


def _starts(frames: int, length: int) -> range:
    """First frames of the whole parts."""
    return range(0, frames - length + 1, length)
