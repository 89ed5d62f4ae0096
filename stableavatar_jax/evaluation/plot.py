"""Curves over the time of a video as a picture, drawn with Pillow, which is always there."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stableavatar_jax.shapes import Float, UInt8

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 1200, 220, 70, 34, 28
"""Pixels of a plot, and those around its frame."""
COLOURS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40))
GREY = (120, 120, 120)
TICKS = 10
"""Marks of time below a plot, about."""

Curves = Mapping[str, Mapping[str, Float[np.ndarray, "T"]]]


def draw_plots(plots: Curves, fps: float | int) -> UInt8[np.ndarray, "H W 3"]:
    """One plot below the other: the lines of each by their names, over seconds."""
    return np.concatenate([np.asarray(_plot(title, lines, fps)) for title, lines in plots.items()])


def _plot(title: str, lines: Mapping[str, Float[np.ndarray, "T"]], fps: float | int) -> Image.Image:
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    canvas, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    box = LEFT, TOP, WIDTH - 40, HEIGHT - BOTTOM
    low, high = (f([f(line) for line in lines.values()]) for f in (min, max))
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    frames = max(map(len, lines.values()))
    canvas.rectangle(box, outline=GREY)
    canvas.text((LEFT, 8), title, "black", font)
    for value, y in ((high, box[1]), (low, box[3])):
        canvas.text((LEFT - 6, y), f"{value:.3g}", "black", font, anchor="rm")
    for second in _ticks(frames / fps):
        place = box[0] + second * fps / max(frames - 1, 1) * (box[2] - box[0])
        canvas.line((place, box[3], place, box[3] + 4), GREY)
        canvas.text((place, box[3] + 6), f"{second:g} s", "black", font, anchor="mt")
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        x = np.linspace(box[0], box[0] + (len(line) - 1) / max(frames - 1, 1) * (box[2] - box[0]), len(line))
        y = box[3] - (line - low) / (high - low) * (box[3] - box[1])
        canvas.line([(float(a), float(b)) for a, b in zip(x, y, strict=True)], colour, 2)
        if len(lines) > 1:
            canvas.text((WIDTH - 30 - 110 * number, 8), name, colour, font, anchor="ra")
    return image


def _ticks(seconds: float) -> list[float]:
    """Round times, about `TICKS` of them."""
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600) if s * TICKS >= seconds)
    return [round(k * step, 6) for k in range(int(seconds / step) + 1)]
