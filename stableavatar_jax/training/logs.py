"""Where a run's measurements go: metrics.csv with every step, lines on the screen, TensorBoard, a plot of the loss.

TensorBoard needs tensorboardX and the plot matplotlib (the extra `training`); without them those are left out.
`boards` says who else is shown a run.
"""

import contextlib
import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from stableavatar_jax import hosts
from stableavatar_jax.errors import Mistake
from stableavatar_jax.training.boards import Board, check_boards, open_boards, tagged
from stableavatar_jax.whole import whole
from stableavatar_jax.words import duration

FILE = "metrics.csv"
SHOWN = ("loss", "psnr", "lip_psnr", "gradient_norm", "samples_per_second", "tflops_per_chip", "mfu")
"""Measurements in the lines on the screen."""


def say(text: str) -> None:
    """Tell what is being done, on the screen, above a progress bar; of several processes the first one does."""
    if hosts.is_first():
        tqdm.write(text, file=sys.stderr)


class Log:
    """Measurements of a run from step `start` to `steps`; later steps of an earlier attempt are forgotten.

    Nothing is written before the first step. Raises OSError where a measurement cannot be written.
    """

    def __init__(self, folder: Path, start: int, steps: int, every: int, options: Mapping[str, Any] | None = None):
        """`options` are those of the run, which boards show. Raises Mistake where one is wanted that is not there."""
        check_boards()
        self.folder, self.start, self.steps, self.every, self.path = folder, start, steps, every, folder / FILE
        self.recent: list[Mapping[str, float]] = []
        self._file: IO[str] | None = None
        self._options, self._boards = options or {}, list[Board]()
        self._bar: Any = None

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Take the measurements of a step; the names are those of the first step's."""
        row = {"step": step, **values}
        file = self._file or self._open(list(row))
        self._writer.writerow({name: _text(value) for name, value in row.items()})
        file.flush()  # a killed run keeps every step
        self.recent.append(values)
        self._bar.update(step - self._bar.n)
        if step % self.every == 0 or step == self.steps:
            self._report(step)

    def close(self) -> None:
        """Write what is pending, and the plot; what cannot be written is left out, as every step has its row."""
        for each in (self._file, *self._boards, self._bar):
            with contextlib.suppress(OSError):
                if each is not None:
                    each.close()
        with contextlib.suppress(OSError, Mistake):
            if self._file:
                plot_loss(self.path, self.folder / "loss.png")

    def validated(self, step: int) -> None:
        """Show what a validation wrote: its row of validation.csv, its video."""
        video = self.folder / "validation" / f"{step}.mp4"
        rows = [row for row in read_rows(self.folder / "validation.csv") if row["step"] == step]
        for board in self._boards:
            for row in rows:
                board.numbers(step, tagged({name: row[name] for name in row if name != "step"}, "validation"))
            if video.is_file():
                board.video(step, video)

    def _open(self, names: Sequence[str]) -> IO[str]:
        """Start the file, or start it again with the rows that are kept, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [row for row in read_rows(self.path) if row["step"] <= self.start]
        _write_rows(self.path, list(rows[0]) if rows else names, rows)
        self._file = file = self.path.open("a", newline="")
        self._writer = csv.DictWriter(file, list(rows[0]) if rows else names)
        self._boards = open_boards(self.folder, self.start, self._options)
        # A bar on a terminal, where its figures would leave no room for it; lines in a file.
        self._bar = tqdm(total=self.steps, initial=self.start, unit="step", disable=None)
        return file

    def _report(self, step: int) -> None:
        """Means since the last report, of the rows that have a value; speed and time left."""
        means = {}
        for name in self.recent[-1]:
            known = [row[name] for row in self.recent if math.isfinite(row[name])]
            if known:
                means[name] = sum(known) / len(known)
        # A step that waited for the compiler says nothing of those to come.
        seconds = sorted(row["seconds"] for row in self.recent)[len(self.recent) // 2]
        self.recent.clear()
        for board in self._boards:
            board.numbers(step, tagged(means))
        figures = "  ".join(f"{name} {means[name]:.3g}" for name in SHOWN if name in means)
        if means.get("waiting_for_input", 0) > 0.1:
            figures += f"  waiting for input {means['waiting_for_input']:.0%}"
        left = f", {duration((self.steps - step) * seconds)} left" if step < self.steps else ""
        say(f"step {step} of {self.steps}  {figures}  {duration(seconds)} a step{left}")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file; a last line that was cut off is left out."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    complete = [row for row in rows if None not in row and None not in row.values()]
    return [{k: int(v) if k == "step" else float(v or "nan") for k, v in row.items()} for row in complete]


def note(path: Path, step: int, values: Mapping[str, float]) -> None:
    """Write a line of a table like metrics.csv, in place of what an earlier attempt wrote for this step and later ones.

    The names are those of the lines before.
    """
    rows = [row for row in read_rows(path) if row["step"] < step] + [{"step": step, **values}]
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_rows(path, list(rows[0]), rows)
    say(f"validation at step {step}  " + "  ".join(f"{k} {v:.4g}" for k, v in values.items()))


def plot_loss(path: Path, output: Path) -> None:
    """Draw the loss over the steps of a metrics file, each step and a running mean."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    rows = read_rows(path)
    figure = Figure(figsize=(8, 4))
    axes = figure.add_subplot(xlabel="step", ylabel="loss", yscale="log")
    steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
    width = max(1, len(rows) // 50)
    means = [sum(losses[max(0, i - width) : i + 1]) / len(losses[max(0, i - width) : i + 1]) for i in range(len(rows))]
    axes.plot(steps, losses, alpha=0.3, label="step")
    axes.plot(steps, means, label=f"mean of {width + 1}")
    axes.legend()
    with whole(output) as partial:
        figure.savefig(partial, bbox_inches="tight", format="png")


def _write_rows(path: Path, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table, whole or not at all."""
    with whole(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)


def _text(value: float | int) -> str:
    """The shortest text that reads back as the same number; nothing for NaN."""
    return "" if isinstance(value, float) and math.isnan(value) else repr(value)
