"""Readings of a video as numbers that can be compared, and as curves over its time."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stableavatar_jax.diffusion.windows import WindowPlan
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation.colour import ciede2000
from stableavatar_jax.evaluation.quality import frozen, seam
from stableavatar_jax.evaluation.readings import Faces, Readings
from stableavatar_jax.frames import FRAMES_PER_LATENT
from stableavatar_jax.shapes import Float, Int
from stableavatar_jax.world.correlation import correlation

SPAN = 200
"""Frames that are compared with as many at the other end (paper Table 4)."""
MAX_LAG = 15
"""Frames either way in which the best lag of lips and sound is looked for."""
RULE_FLAT = 0.1
"""Range of the opening that a sound asks for below which nobody speaks."""
Curve = Float[np.ndarray, "T"]


def span(frames: int) -> int:
    """Frames that early is compared with late: `SPAN`, of a shorter video half."""
    return max(1, min(SPAN, frames // 2))


def colour_drift(early: Float[np.ndarray, "N cells 3"], late: Float[np.ndarray, "M cells 3"]) -> float:
    """CIEDE2000 between the mean colours of two stretches in every cell, mean over the cells."""
    return float(ciede2000(early.mean(0), late.mean(0)).mean())


def csim(one: Float[np.ndarray, "N D"], other: Float[np.ndarray, "M D"]) -> float:
    """Cosine similarity of face embeddings, mean over all pairs of the two stretches."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, other))
    return float(a.mean(0) @ b.mean(0))


def proportions(one: Float[np.ndarray, "N D"], other: Float[np.ndarray, "M D"]) -> float:
    """Largest change of a length of the face between two stretches, as a share of that length."""
    return float(np.abs(np.median(one, 0) - np.median(other, 0)).max())


IDENTITY: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"proportions": proportions, "CSIM(dlib)": csim}
"""How early and late are compared, by the name under which a reader has it."""


def motion(faces: Faces) -> dict[str, float]:
    """`mouth_moves`: range of the opening without the outer tenth of the frames, in the reader's unit; `head_moves`:
    root mean square of the head's distance from its mean place, in shares of the picture's width."""
    opening = faces.opening[np.isfinite(faces.opening)]
    place = faces.place[np.isfinite(faces.place).all(1)]
    return {
        "mouth_moves": float(np.subtract(*np.percentile(opening, (95, 5)))),
        "head_moves": float(np.sqrt(np.square(place - place.mean(0)).sum(1).mean())),
    }


def sync(faces: Faces, expected: Curve, flat: float = RULE_FLAT) -> dict[str, float]:
    """`r` of the opening seen with the one expected, `best_r` at the lag where it is highest, and that `lag` in frames:
    above 0 where the mouth comes after the sound. Frames without a face are passed over by interpolation; `flat` is the
    range below which `expected` does not move."""
    length = min(len(faces.opening), len(expected))
    if length <= MAX_LAG + 1:
        raise Mistake(f"{length} frames are too few to compare lips with sound; {MAX_LAG + 2} are needed")
    seen = filled(faces.opening[:length])
    known = filled(expected[:length])
    best = correlation(seen, known, MAX_LAG, (faces.flat, flat))
    return {"r": correlation(seen, known, 0, (faces.flat, flat)).r, "best_r": best.r, "lag": float(best.lag)}


def stretches(seen: Readings, expected: Curve, seconds: float) -> list[dict[str, float]]:
    """Measures of one stretch of so many seconds after another; the last one ends with the video.

    `r`, `mouth_moves` and `head_moves` are those of the stretch; `colour` is CIEDE2000 from the video's beginning,
    `sharpness` the mean share of the first frame's.
    """
    assert seen.faces is not None
    length = min(len(seen), len(expected))
    n, rows = min(round(seconds * seen.fps), length), []
    starts = [*range(0, length - n + 1, n)]
    for first in (*starts[:-1], length - n):
        part = slice(first, first + n)
        faces = dataclasses.replace(seen.faces, opening=seen.faces.opening[part], place=seen.faces.place[part])
        rows.append({
            "r": sync(faces, expected[part])["r"],
            **motion(faces),
            "colour": colour_drift(seen.colours[: span(len(seen))], seen.colours[part]),
            "sharpness": float(seen.sharpness[part].mean() / max(seen.sharpness[0], 1e-9)),
        })  # fmt: skip
    return rows


def ends(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """`early_r` and `late_r` of the first and the last stretch, `mouth_least` and `head_least` of any."""
    return {
        "early_r": rows[0]["r"],
        "late_r": rows[-1]["r"],
        "mouth_least": min(row["mouth_moves"] for row in rows),
        "head_least": min(row["head_moves"] for row in rows),
    }


def filled(curve: Curve) -> Curve:
    """The curve with what is not known put between its neighbours."""
    known = np.isfinite(curve)
    return np.interp(np.arange(len(curve)), np.flatnonzero(known), curve[known])


def joints(plan: WindowPlan) -> Int[np.ndarray, "J"]:
    """Latent frames at which a window begins or the frames that it shares with the next one end, but for the first."""
    starts = np.array(plan.starts[1:], int)
    return np.unique(np.concatenate([starts, starts + plan.overlap]))


def seams(seen: Readings, plan: WindowPlan) -> float:
    """`quality.seam` of a video made in these windows: latent frame k begins with picture 4k - 3."""
    firsts = FRAMES_PER_LATENT * np.arange(plan.frames) - FRAMES_PER_LATENT + 1
    firsts[0] = 0
    return seam(seen.change[firsts[firsts < len(seen)]], joints(plan))


@dataclass(frozen=True)
class Measured:
    """A video's measures."""

    values: dict[str, float]
    """By their names (docs/evidence.md says what each is)."""
    curves: dict[str, Mapping[str, Curve]]
    """What is drawn over time: a plot's lines by their names, by the plot's name."""


def measure(
    seen: Readings, *, expected: Curve | None = None, flat: float = RULE_FLAT, plan: WindowPlan | None = None
) -> Measured:
    """All measures that need no other video.

    `expected` is the opening that the sound asks for, or the true one, and `flat` is the range below which
    it does not move; `plan` are the windows the video was made in.
    """
    n = span(len(seen))
    freezes = frozen(seen.change)
    values = {
        "seconds": len(seen) / seen.fps,
        "colour_drift": colour_drift(seen.colours[:n], seen.colours[-n:]),
        "sharpness": float(seen.sharpness[-n:].mean() / max(seen.sharpness[0], 1e-9)),
        "sharpness_kept": float(seen.sharpness[-n:].mean() / max(float(seen.sharpness[:n].mean()), 1e-9)),
        "frozen": float(freezes.mean()),
    }
    since = ciede2000(seen.colours, seen.colours[:n].mean(0)).mean(1)
    curves: dict[str, Mapping[str, Curve]] = {
        "colour against the beginning (CIEDE2000)": {"colour": since},
        "sharpness against the first frame": {"sharpness": seen.sharpness / max(seen.sharpness[0], 1e-9)},
        "change from frame to frame (grey levels)": {"change": seen.change[1:]},
    }
    if plan:
        values["seam"] = seams(seen, plan)
    if seen.faces:
        values |= motion(seen.faces)
        for name, known in seen.faces.identity.items():
            half = max(1, min(len(known) // 2, round(n * len(known) / len(seen))))
            values[name] = IDENTITY[name](known[:half], known[-half:])
        lines = {"seen": filled(seen.faces.opening)}
        if expected is not None:
            values |= sync(seen.faces, expected, flat)
            lines["expected"] = filled(expected)
        curves = {"mouth": {name: _unit(line) for name, line in lines.items()}} | curves
    return Measured(values, curves)


def _unit(curve: Curve) -> Curve:
    """A curve from its 2nd to its 98th percentile, so that curves of several units can be drawn over each other."""
    low, high = np.percentile(curve, (2, 98))
    return (curve - low) / max(float(high - low), 1e-9)
