"""Sheets of many characters, or of a clip's frames with the curve of its mouth."""

import json

import numpy as np
from PIL import Image, ImageDraw

from stableavatar_jax import media
from stableavatar_jax.data.clips.clip import Clip
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Float
from stableavatar_jax.world.character import draw_character
from stableavatar_jax.world.config import SheetConfig
from stableavatar_jax.world.draw import Pose, render

CURVE = 60
"""Rows for the curve under a row of frames."""


def write_sheet(config: SheetConfig) -> None:
    """Write the sheet. Raises Mistake where there is no such clip, or where it cannot be written."""
    if config.clips:
        dataset = ClipDataset(config.clips)
        if not 0 <= config.number < len(dataset):
            raise Mistake(f"{config.clips}: it has no clip {config.number}; clips are 0 to {len(dataset) - 1}")
        sheet = clip_sheet(dataset[config.number], config.rows, config.columns)
    else:
        sheet = character_sheet(config.seed, config.rows, config.columns, config.size)
    media.write_picture(config.output, sheet)


def character_sheet(seed: int, rows: int, columns: int, size: int) -> Image.Image:
    """Characters with mouths of all shapes: opening grows from left to right, width from row to row."""
    sheet = Image.new("RGB", (columns * size, rows * size))
    for row, column in np.ndindex(rows, columns):
        pose = Pose(opening=column / max(1, columns - 1), width=row / max(1, rows - 1))
        picture = render(draw_character(seed + row * columns + column), pose, size)
        sheet.paste(Image.fromarray(picture), (column * size, row * size))
    return sheet


def clip_sheet(clip: Clip, rows: int, columns: int) -> Image.Image:
    """The first rows * columns frames of a clip, with opening (red) and width (blue) where those are known."""
    labels = json.loads(clip.labels) if clip.labels else {"opening": [], "width": []}
    count = min(rows * columns, clip.frames)
    pictures = clip.pictures(range(count))
    high = clip.height + CURVE
    sheet = Image.new("RGB", (columns * clip.width, -(-count // columns) * high), "white")
    draw = ImageDraw.Draw(sheet)
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * clip.width, number // columns * high))
    for name, colour in (("opening", "red"), ("width", "blue")):
        curve = np.asarray(labels[name][:count])
        for row in range(-(-len(curve) // columns)):
            part = curve[row * columns : (row + 1) * columns]
            draw.line(_points(part, clip.width, row * high + clip.height), colour, 2)
    return sheet


def _points(curve: Float[np.ndarray, "T"], width: int, top: int) -> list[tuple[float, float]]:
    return [((i + 0.5) * width, top + CURVE - 4 - (CURVE - 8) * value) for i, value in enumerate(curve.tolist())]
