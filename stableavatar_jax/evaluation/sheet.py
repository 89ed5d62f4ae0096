"""Frames of videos as one picture to look at, for a README or beside numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image, ImageDraw

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation.video import Frames


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Draw frames of a video, evenly spread, and under each its mouth enlarged.

    python -m stableavatar_jax.demo sheet outputs/demo.mp4 --output docs/demo.png
    """

    video: Annotated[Path, tyro.conf.Positional]
    """Any video."""
    output: Path = Path("sheet.png")
    """PNG or JPEG to write."""
    columns: int = 8
    """Frames in a row."""
    rows: int = 2
    """Of frames."""
    start: float = 0.0
    """Seconds at which the first frame is taken."""
    seconds: float | None = None
    """From the first frame to the last; by default to the end of the video."""
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
        info = media.probe(self.video)
        first = round(self.start * info.fps)
        last = min(info.frames - 1, first + round((self.seconds or info.seconds) * info.fps))
        if first > last:
            raise Mistake(f"{self.video}: it ends after {info.seconds:.2f} s; --start is {self.start:g}")
        numbers = np.linspace(first, last, self.rows * self.columns).round().astype(int).tolist()
        wanted = {n: frame for n, frame in enumerate(media.read_video(self.video)) if n in numbers}
        numbers = [min(number, max(wanted)) for number in numbers]  # a damaged file may have fewer than it says
        shown = [self._pair(wanted[number], f"{number / info.fps:.2f} s") for number in numbers]
        save(self.output, tile([shown[i : i + self.columns] for i in range(0, len(shown), self.columns)]))
        print(self.output)

    def _pair(self, frame: np.ndarray, label: str) -> np.ndarray:
        """A frame with the time, over its mouth."""
        picture = Image.fromarray(frame)
        x, y, side = self.mouth
        left, right = ((x + half) * picture.width for half in (-side / 2, side / 2))
        top, bottom = ((y + half) * picture.height for half in (-side / 2, side / 2))
        high = round(self.size * picture.height / picture.width)
        whole = picture.resize((self.size, high), Image.Resampling.LANCZOS)
        mouth = picture.resize(whole.size, Image.Resampling.LANCZOS, box=(left, top, right, bottom))
        ImageDraw.Draw(whole).text((4, 2), label, "white", stroke_width=2, stroke_fill="black")
        return np.concatenate([whole, mouth])


def film_strips(videos: Sequence[Frames], columns: int = 16) -> np.ndarray:
    """A row for each video, of frames evenly spread over it. All have frames of one size."""
    return tile([video[np.linspace(0, len(video) - 1, columns).round().astype(int)] for video in videos])


def tile(rows: Sequence[Sequence[np.ndarray] | Frames]) -> np.ndarray:
    """Pictures of one size, side by side and row under row."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def save(path: Path, picture: np.ndarray) -> None:
    """Write a picture; raises Mistake where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    except (OSError, ValueError) as error:
        raise Mistake(f"{path}: cannot be written ({error}); give a name that ends in .png") from error
