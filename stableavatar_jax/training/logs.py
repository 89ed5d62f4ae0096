"""Where a run's measurements go: metrics.csv with every step, a line on the screen, TensorBoard, a plot of the loss.

TensorBoard needs tensorboardX, the plot matplotlib and the progress bar tqdm; without them those are left out.
"""

import csv
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

logger = logging.getLogger(__name__)

FILE = "metrics.csv"


class Log:
    """Measurements of a run from step `start` on; later steps of an earlier attempt are forgotten."""

    def __init__(self, folder: Path, start: int, steps: int, every: int):
        self.folder, self.every, self.path = folder, every, folder / FILE
        self.rows = [row for row in read_rows(self.path) if row["step"] <= start]
        self.recent: list[Mapping[str, float]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] | None = None
        if self.rows:
            self._open(list(self.rows[0]), self.rows)
        self._board = _tensorboard(folder, start)
        self._bar = _progress(start, steps)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Take the measurements of a step; the names are those of the first step's."""
        row = {"step": step, **values}
        file = self._file or self._open(list(row), [])
        self._writer.writerow({name: _text(value) for name, value in row.items()})
        file.flush()  # a killed run keeps every step
        self.recent.append(values)
        if step % self.every == 0:
            self._report(step)
        elif self._bar:
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Write what is pending, and the plot."""
        for each in (self._file, self._board, self._bar):
            if each:
                each.close()
        if self._file:
            plot_loss(self.path, self.folder / "loss.png")

    def _open(self, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> IO[str]:
        """Start the file, or start it again with the rows that are kept, whole or not at all."""
        _write_rows(self.path, names, rows)
        self._file = file = self.path.open("a", newline="")
        self._writer = csv.DictWriter(file, names)
        return file

    def _report(self, step: int) -> None:
        """Means since the last report; of the rows that have a value."""
        means = {}
        for name in self.recent[-1]:
            known = [row[name] for row in self.recent if math.isfinite(row[name])]
            if known:
                means[name] = sum(known) / len(known)
        self.recent.clear()
        if self._board:
            for name, value in means.items():
                self._board.add_scalar(name, value, step)
        shown = ("loss", "psnr", "lip_psnr", "gradient_norm", "samples_per_second", "tflops_per_chip", "mfu",
                 "waiting_for_input")  # fmt: skip
        line = "  ".join(f"{name} {means[name]:.3g}" for name in shown if name in means)
        if self._bar:
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix_str(line)
        else:
            print(f"step {step}  {line}", file=sys.stderr)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file; a last line that was cut off is left out."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    whole = [row for row in rows if None not in row and None not in row.values()]
    return [{k: int(v) if k == "step" else float(v or "nan") for k, v in row.items()} for row in whole]


def note(path: Path, step: int, values: Mapping[str, float]) -> None:
    """Write a line of a table like metrics.csv, in place of what an earlier attempt wrote for this step and later ones.

    The names are those of the lines before.
    """
    rows = [row for row in read_rows(path) if row["step"] < step] + [{"step": step, **values}]
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_rows(path, list(rows[0]), rows)
    print(f"validation at step {step}  " + "  ".join(f"{k} {v:.4g}" for k, v in values.items()), file=sys.stderr)


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
    figure.savefig(output, bbox_inches="tight")


def _write_rows(path: Path, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)
    partial.replace(path)


def _text(value: float | int) -> str:
    """The shortest text that reads back as the same number; nothing for NaN."""
    return "" if isinstance(value, float) and math.isnan(value) else repr(value)


def _tensorboard(folder: Path, start: int):
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        logger.info("no TensorBoard files: tensorboardX is not installed")
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)


def _progress(start: int, steps: int):
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    bar = tqdm(total=steps, initial=start, unit="step", disable=None)
    return None if bar.disable else bar  # no terminal: lines instead
