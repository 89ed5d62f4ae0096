"""Paints and shapes that every drawing uses."""

from collections.abc import Sequence

import skia

from stableavatar_jax.world.character import Colour

OUTLINE: Colour = (52, 38, 44)
Number = int | float
Point = tuple[Number, Number]


def fill(colour: Colour, alpha: Number = 1.0) -> skia.Paint:
    """Paint that fills."""
    return skia.Paint(AntiAlias=True, Color=skia.Color(*colour, round(255 * alpha)))


def line(colour: Colour, width: Number, alpha: Number = 1.0) -> skia.Paint:
    """Paint that draws a line with round ends."""
    paint = fill(colour, alpha)
    paint.setStyle(skia.Paint.kStroke_Style)
    paint.setStrokeWidth(width)
    paint.setStrokeCap(skia.Paint.kRound_Cap)
    paint.setStrokeJoin(skia.Paint.kRound_Join)
    return paint


def oval(x: Number, y: Number, half_width: Number, half_height: Number) -> skia.Rect:
    """The rectangle around an ellipse."""
    return skia.Rect.MakeLTRB(x - half_width, y - half_height, x + half_width, y + half_height)


def polygon(points: Sequence[Point]) -> skia.Path:
    """A closed path."""
    return skia.Path.Polygon([skia.Point(*point) for point in points], True)


def smooth(points: Sequence[Point], closed: bool = True) -> skia.Path:
    """A curve through points (Catmull-Rom); an open one begins and ends at the outer points."""
    n = len(points)
    at = lambda i: points[i % n] if closed else points[min(max(i, 0), n - 1)]  # noqa: E731
    path = skia.Path()
    path.moveTo(*points[0])
    for i in range(n if closed else n - 1):
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = (at(i + k) for k in (-1, 0, 1, 2))
        path.cubicTo(bx + (cx - ax) / 6, by + (cy - ay) / 6, cx - (dx - bx) / 6, cy - (dy - by) / 6, cx, cy)
    if closed:
        path.close()
    return path


def gradient(start: Point, end: Point, colours: Sequence[tuple[Colour, Number]]) -> skia.Paint:
    """Paint that fills with colours (and their opacity) from one point to another."""
    shades = [skia.Color(*colour, round(255 * alpha)) for colour, alpha in colours]
    shader = skia.GradientShader.MakeLinear([skia.Point(*start), skia.Point(*end)], shades)
    return skia.Paint(AntiAlias=True, Shader=shader)
