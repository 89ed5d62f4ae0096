"""Frames of videos as one picture, for a README or beside figures."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation.config_pictures import Sheet
from stableavatar_jax.evaluation.video import Frames


def draw(config: Sheet) -> None:
    """Write the sheet. Raises Mistake for a file that is no video, or is shorter than `start`."""
    info = media.probe(config.video)
    first = round(config.start * info.fps)
    last = min(info.frames - 1, first + round((config.seconds or info.seconds) * info.fps))
    if first > last:
        raise Mistake(f"{config.video}: it ends after {info.seconds:.2f} s; --start is {config.start:g}")
    numbers = np.linspace(first, last, config.rows * config.columns).round().astype(int).tolist()
    wanted = {n: frame for n, frame in enumerate(media.read_video(config.video)) if n in numbers}
    numbers = [min(number, max(wanted)) for number in numbers]  # a damaged file may have fewer than it says
    shown = [_over_mouth(config, wanted[number], f"{number / info.fps:.2f} s") for number in numbers]
    rows = [shown[first : first + config.columns] for first in range(0, len(shown), config.columns)]
    media.write_picture(config.output, tile(rows))


def _over_mouth(config: Sheet, frame: np.ndarray, label: str) -> np.ndarray:
    """A frame with the time, over its mouth."""
    picture = Image.fromarray(frame)
    x, y, side = config.mouth
    left, right = ((x + half) * picture.width for half in (-side / 2, side / 2))
    top, bottom = ((y + half) * picture.height for half in (-side / 2, side / 2))
    high = round(config.size * picture.height / picture.width)
    whole = picture.resize((config.size, high), Image.Resampling.LANCZOS)
    mouth = picture.resize(whole.size, Image.Resampling.LANCZOS, box=(left, top, right, bottom))
    return np.concatenate([labelled(np.asarray(whole), label), mouth])


def labelled(frame: np.ndarray, label: str) -> np.ndarray:
    """A frame with words in its corner."""
    picture = Image.fromarray(frame)
    ImageDraw.Draw(picture).text((4, 2), label, "white", stroke_width=2, stroke_fill="black")
    return np.asarray(picture)


def film_strips(videos: Sequence[Frames], columns: int = 16) -> np.ndarray:
    """A row of evenly spaced frames for each video. All frames have one size."""
    return tile([video[np.linspace(0, len(video) - 1, columns).round().astype(int)] for video in videos])


def tile(rows: Sequence[Sequence[np.ndarray] | Frames]) -> np.ndarray:
    """Pictures of one size, side by side and row under row."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
