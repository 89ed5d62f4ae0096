"""Learning curves of runs as a picture: `python -m stableavatar_jax.evaluation.curves RUN ... --output curves.png`."""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Float

ACROSS = 3
"""Runs beside each other, at most."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Draw columns of the runs' metrics.csv over their steps (matplotlib comes with the extra `training`)."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories, or CSV files with a column `step`; each has a plot of its own."""
    columns: tuple[str, ...] = ("loss",)
    """What is drawn of each; a run is silent on columns that it lacks."""
    smooth: int = 25
    """Steps that a point is the mean of."""
    output: Path = Path("curves.png")
    """PNG to write."""

    def run(self) -> None:
        """Write the picture. Raises ValueError for a file that has no steps."""
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot

        across = min(len(self.runs), ACROSS)
        down = -(-len(self.runs) // across)
        figure, axes = pyplot.subplots(down, across, figsize=(4 * across, 3 * down), squeeze=False)
        for axis in axes.flat[len(self.runs) :]:
            axis.remove()
        for axis, path in zip(axes.flat, self.runs, strict=False):
            table = read_table(path)
            for column in self.columns:
                if column in table:
                    axis.plot(*means(table["step"], table[column], self.smooth), label=column)
            axis.set(title=path.stem, xlabel="step", yscale="log")  # losses and decibels are far apart
            axis.legend()
        figure.tight_layout()
        figure.savefig(self.output, dpi=110)


def read_table(path: Path) -> dict[str, Float[np.ndarray, "N"]]:
    """Columns of a run's metrics.csv, or of another CSV file, NaN where a field is empty."""
    file = path / "metrics.csv" if path.is_dir() else path
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    if not rows or "step" not in rows[0]:
        raise Mistake(f"{file}: no rows with a column `step`; give run directories of train.py")
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


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


if __name__ == "__main__":
    try:
        tyro.cli(Curves).run()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
