"""Learning curves of runs as a picture."""

import csv
from pathlib import Path

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation.config_pictures import METRICS, Curves
from stableavatar_jax.shapes import Float
from stableavatar_jax.whole import whole

ACROSS = 3
"""Runs beside each other, at most."""


def draw(config: Curves) -> None:
    """Write the picture. Raises Mistake for a file that has no steps."""
    import matplotlib  # here: it comes with an extra, and tables are read without it

    matplotlib.use("agg")
    from matplotlib import pyplot

    tables = [read_table(path) for path in config.runs]
    across = min(len(tables), ACROSS)
    down = -(-len(tables) // across)
    figure, axes = pyplot.subplots(down, across, figsize=(4 * across, 3 * down), squeeze=False)
    for axis in axes.flat[len(tables) :]:
        axis.remove()
    for axis, path, table in zip(axes.flat, config.runs, tables, strict=False):
        for column in config.columns:
            if column in table:
                axis.plot(*means(table["step"], table[column], config.smooth), label=column)
        axis.set(title=path.stem, xlabel="step", yscale="log")  # losses and decibels are far apart
        axis.legend()
    figure.tight_layout()
    with whole(config.output) as partial:
        figure.savefig(partial, dpi=110, format="png")


def read_table(path: Path) -> dict[str, Float[np.ndarray, "N"]]:
    """Columns of a run's metrics.csv, or of another CSV file, NaN where a field is empty.

    Raises Mistake for a file that is no table of numbers by their steps.
    """
    file = path / METRICS if path.is_dir() else path
    try:
        with file.open(newline="") as opened:
            rows = list(csv.DictReader(opened))
        if not rows or "step" not in rows[0]:
            raise Mistake(f"{file}: no rows with a column `step`; give run directories of train.py")
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
    except Mistake:
        raise
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise Mistake(f"{file}: no table of numbers ({error}); give run directories of train.py") from None


def means(
    steps: Float[np.ndarray, "N"], values: Float[np.ndarray, "N"], count: int
) -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "M"]]:
    """Means of so many neighbours, without NaN: their last step, and their value."""
    known = np.isfinite(values)
    steps, values = steps[known], values[known]
    whole = max(len(steps) // count, 1)
    pieces = zip(np.array_split(steps, whole), np.array_split(values, whole), strict=True)
    points = [(s[-1], v.mean()) for s, v in pieces if len(s)]
    return tuple(np.array(axis) for axis in zip(*points, strict=True)) if points else (np.array([]),) * 2  # type: ignore[return-value]
