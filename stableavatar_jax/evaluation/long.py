"""Whether a character keeps its looks, its lips and its motion in a long video."""

import math

from stableavatar_jax.compiling import keep_compiled
from stableavatar_jax.diffusion.windows import WindowPlan
from stableavatar_jax.evaluation import gates, video
from stableavatar_jax.evaluation.config import Drift
from stableavatar_jax.evaluation.measures import ends, measure, stretches
from stableavatar_jax.evaluation.plot import draw_plots
from stableavatar_jax.evaluation.readers import CartoonReader
from stableavatar_jax.evaluation.readings import Readings, read
from stableavatar_jax.evaluation.report import finish
from stableavatar_jax.evaluation.sheet import tile
from stableavatar_jax.frames import latent_frames
from stableavatar_jax.world.build import make_clip
from stableavatar_jax.world.config import FPS, BuildWorldConfig
from stableavatar_jax.world.known import Known, read_known

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
    seen = read(frames, FPS, CartoonReader(known.character.seed))
    width = round(config.stretch * FPS)
    strips = [
        frames[first : first + width : math.ceil(width / STRIP)] for first in range(0, len(frames) - width + 1, width)
    ]
    plan = sample.denoising.windows.plan(latent_frames(len(frames)))
    rows, values, plots = measure_long(seen, known, plan, config.stretch)
    about = {"checkpoint": str(sample.weights.checkpoint), "seconds": config.seconds, "character": known.character.seed}
    pictures = {"sheet": tile(strips), "plots": draw_plots(plots, FPS)}
    return finish(config.output, rows, values, gates.DRIFT, about, pictures)


def measure_long(
    seen: Readings, known: Known, plan: WindowPlan, stretch: float
) -> tuple[dict[str, dict[str, float]], dict[str, float], dict]:
    """A row for each stretch, the measures of the whole, and curves over time.

    `r_kept` is the correlation with the true opening in the last stretch minus that in the first.
    """
    whole = measure(seen, expected=known.mouth.opening, plan=plan)
    rows = stretches(seen, known.mouth.opening, stretch)
    least = ends(rows)
    values = whole.values | least | {"r_kept": least["late_r"] - least["early_r"]}
    return {f"{place * stretch:.0f} s": row for place, row in enumerate(rows)}, values, whole.curves
