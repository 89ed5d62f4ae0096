"""The rows of every table: what is made otherwise than as the demo's preset says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stableavatar_jax.demo.preset import STUDENT
from stableavatar_jax.models.config import Ablation
from stableavatar_jax.training.parts.distil_config import StudentConfig

CHEAPER = ("r", "lag", "lip_psnr", "colour_drift", "sharpness_kept", "head_moves", "evaluations", "wall")
"""`lip_psnr` is that of the lips' region against the video of the table's first row."""
LONG = ("r", "early_r", "late_r", "colour_drift", "sharpness", "mouth_least", "head_least", "proportions")


@dataclass(frozen=True)
class Row:
    """One way of making videos."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of `sample.py`."""
    adapter: Ablation | None = None
    """The audio adapter of a model trained for this row; None: the shipped model."""
    cache: bool = False
    """Whether a step cache is measured for this row, and used."""


@dataclass(frozen=True)
class Table:
    """What is compared."""

    about: str
    rows: Mapping[str, Row]
    seconds: float = 20.0
    shown: tuple[str, ...] = ()
    """Columns, where they are not the usual ones."""


def native(w1: float, w2: float) -> Row:
    """Audio-native guidance of these scales."""
    return Row({"guidance": "audio_native", "w1": w1, "w2": w2})


def cfg(text: float, audio: float) -> Row:
    """Classifier-free guidance of these scales."""
    return Row({"guidance": "cfg", "text_scale": text, "audio_scale": audio})


HALF = {"guidance_until": 0.5, "guidance_reuse": True}


def fewer(steps: int, w2: float) -> dict[str, Row]:
    """Ways of evaluating less at so many steps with audio-native guidance."""
    base = {"guidance": "audio_native", "steps": steps, "w1": 0.5, "w2": w2}
    told = f"{steps} steps x {3 if w2 else 2}"
    return {
        f"{told}, full": Row(base),
        f"{told}, reuse": Row(base | HALF),
        f"{told}, cache": Row(base, cache=True),
        f"{told}, both": Row(base | HALF, cache=True),
        f"{told}, both, K 4": Row(base | HALF | {"cache_most": 4}, cache=True),
    }


def few(steps: int, **options: Any) -> Row:
    """The noise levels that a student of so many steps is trained at."""
    return Row({"levels": StudentConfig(steps=steps).levels(3.0)[:-1]} | options)


def student(steps: int) -> Row:
    """What was distilled from the demo avatar, trained for 4 steps, in so many."""
    return few(steps, guidance="none", transformer=STUDENT)


WITHOUT = Row({"guidance": "none"})
FUSIONS = {
    "logarithmic (ours)": Row({"fusion": "logarithmic"}),
    "linear (uniformed gap)": Row({"fusion": "linear"}),
    "fixed": Row({"fusion": "fixed"}),
}
TABLES = {
    "3": Table(
        "The audio adapter without some of its parts, each trained from one start (paper Table 3)",
        {
            "full (ours)": Row(adapter="full"),
            "project (w/o adapter)": Row(adapter="project"),
            "no modulation": Row(adapter="no_modulation"),
            "random modulation": Row(adapter="random_modulation"),
            "no cross-attention": Row(adapter="no_cross_attention"),
        },
    ),
    "4": Table(
        "Early against late in a video of three minutes (paper Table 4)",
        {
            "adapter and guidance": Row(),
            "adapter": WITHOUT,
            "neither": Row(WITHOUT.options, adapter="project"),
        },
        seconds=180.0,
        shown=LONG,
    ),
    "5": Table(
        "Guidance (paper Table 5)",
        {
            "none": WITHOUT,
            "cfg, scales of the release (text 3, audio 5)": cfg(3.0, 5.0),
            "cfg, as weak as the demo's (text 1, audio 1.5)": cfg(1.0, 1.5),
            "audio native, the demo's (w1 0.5, w2 0)": native(0.5, 0.0),
            "audio native, both (w1 0.5, w2 0.5)": native(0.5, 0.5),
        },
    ),
    "6": Table(
        "Windows joined (paper Table 6): overlap and fusion, or windows one after another",
        {
            "logarithmic (ours)": FUSIONS["logarithmic (ours)"],
            "no overlap": Row({"overlap": 0}),
        },
    ),
    "8": Table("Weights over the frames that windows share (paper Table 8)", FUSIONS),
    "scales": Table(
        "The two scales of audio-native guidance",
        {
            f"w1 {w1:g}, w2 {w2:g}": native(w1, w2)
            for w1, w2 in [
                (0.0, 0.0), (0.25, 0.0), (0.5, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 1.0), (0.0, 0.5), (0.0, 1.0),
                (0.5, 0.5), (1.0, 1.0),
            ]  # fmt: skip
        },
    ),
    "overlap": Table(
        "Latent frames that windows share, of 9", {f"overlap {n}": Row({"overlap": n}) for n in (3, 0, 2, 4, 6)}
    ),
    "fewer": Table(
        "Fewer evaluations: guidance kept after half of the steps, blocks left out (MagCache)",
        fewer(16, 0.0),
        shown=CHEAPER,
    ),
    "fewer50": Table(
        "The same at 50 steps with three branches",
        fewer(50, 0.5),
        shown=CHEAPER,
    ),
    "student": Table(
        "The demo avatar and its student at the same noise levels",
        {
            "teacher, 16 steps x 2": Row(),
            **{f"teacher, {n} x 2": few(n) for n in (8, 4, 2, 1)},
            "teacher, 4 x 1": few(4, guidance="none"),
            **{f"student, {n} x 1": student(n) for n in (8, 4, 2, 1)},
        },
        shown=CHEAPER,
    ),
    "steps": Table("Denoising steps", {f"{n} steps": Row({"steps": n}) for n in (16, 4, 8, 32)}),
    "solver": Table(
        "Solvers",
        {
            f"{solver}, {steps} steps": Row({"solver": solver, "steps": steps})
            for solver, steps in [("euler", 16), ("euler", 8), ("unipc", 8), ("dpm++", 8), ("unipc", 16), ("dpm++", 16)]
        },
    ),
}
