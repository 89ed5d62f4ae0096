"""Options of the commands that draw, read without what they draw with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stableavatar_jax.errors import Mistake, need
from stableavatar_jax.inputs import check_file, check_there
from stableavatar_jax.whole import check_output

METRICS = "metrics.csv"
"""Where `train.py` writes a run's measurements."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Draw evenly spaced frames of a video, and under each its mouth enlarged.

    python -m stableavatar_jax.evaluation sheet talk.mp4 --output sheet.png
    """

    video: Annotated[Path, tyro.conf.Positional]
    """Any video."""
    output: Path = Path("sheet.png")
    """The PNG or JPEG to write."""
    columns: int = 8
    """Frames in a row."""
    rows: int = 2
    """Rows of frames."""
    start: float = 0.0
    """Seconds at which the first frame is taken."""
    seconds: float | None = None
    """Seconds from the first frame to the last; by default to the end of the video."""
    size: int = 160
    """Pixels of a frame's width on the sheet."""
    mouth: tuple[float, float, float] = (0.5, 0.66, 0.4)
    """Where the mouth is: its middle's place from the left and the top, and the side of the square around it, in
    shares of the picture's width and height."""

    def __post_init__(self):
        if min(self.columns, self.rows) < 1 or self.size < 16 or self.start < 0 or (self.seconds or 1) <= 0:
            raise Mistake("columns and rows are at least 1, size 16, start 0, and seconds is above 0")
        x, y, side = self.mouth
        if not side / 2 <= min(x, y) <= max(x, y) <= 1 - side / 2 or side <= 0:
            raise Mistake(f"mouth is {x:g} {y:g} {side:g}: a square that lies within the picture is needed")

    def run(self) -> None:
        """Write the sheet. Raises Mistake for a file that is no video, or is shorter than `start`."""
        check_file(self.video)
        check_output(self.output, inputs=(self.video,))
        from stableavatar_jax.evaluation.sheet import draw

        draw(self)
        print(self.output)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Draw columns of runs' metrics.csv over their steps (matplotlib comes with the extra `training`).

    python -m stableavatar_jax.evaluation curves runs/a --output a.png
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories, or CSV files with a column `step`; each has a plot of its own."""
    columns: tuple[str, ...] = ("loss",)
    """What is drawn of each; columns that a run lacks are left out."""
    smooth: int = 25
    """How many steps a point is the mean of."""
    output: Path = Path("curves.png")
    """The PNG to write."""

    def __post_init__(self):
        if not self.runs or self.smooth < 1:
            raise Mistake("give one run or more; smooth is 1 or more")

    def run(self) -> None:
        """Write the picture. Raises Mistake for a file that has no steps."""
        for path in self.runs:
            check_there(path)
            check_file(path / METRICS if path.is_dir() else path, "give run directories of train.py, or CSV files")
        check_output(self.output, inputs=self.runs)
        need("training", "matplotlib")
        from stableavatar_jax.evaluation.curves import draw

        draw(self)
        print(self.output)
