"""Ears, hair and hats."""

import math

import skia

from stableavatar_jax.world.character import Character, mix
from stableavatar_jax.world.paint import OUTLINE, fill, line, oval, polygon, smooth


def draw_behind(canvas: skia.Canvas, c: Character) -> None:
    """Ears, and the hair behind the head."""
    x, y, w, h = c.head_x, c.head_y, c.head_width, c.head_height
    hair = fill(mix(c.hair_colour, OUTLINE, 0.15))
    if c.hair in ("long", "bob"):
        bottom = y + h * (1.25 if c.hair == "long" else 0.7)
        fall = skia.Rect.MakeLTRB(x - w - 0.05, y - h - 0.03, x + w + 0.05, bottom)
        canvas.drawRRect(skia.RRect.MakeRectXY(fall, 0.22, 0.2), hair)
    elif c.hair == "curly":
        for k in range(11):
            angle = math.pi * (1.08 - 0.116 * k * 1.0)
            canvas.drawCircle(x + (w + 0.02) * math.cos(angle), y - 0.05 - (h - 0.02) * math.sin(angle), 0.085, hair)
    elif c.hair == "bun":
        canvas.drawCircle(x, y - h - 0.03, 0.095, hair)
    elif c.hair == "ponytails":
        for side in (-1, 1):
            canvas.drawOval(oval(x + side * (w + 0.06), y + 0.02, 0.075, 0.16), hair)
    for side in (-1, 1):
        _draw_ear(canvas, c, side)


def _draw_ear(canvas: skia.Canvas, c: Character, side: int) -> None:
    x, y, w, h, size = c.head_x, c.head_y, c.head_width, c.head_height, c.ear_size
    skin, inner, edge = fill(c.skin), fill(mix(c.skin, (240, 130, 140), 0.45)), line(mix(c.skin, OUTLINE, 0.75), 0.011)
    out = x + side * w
    if c.species in ("cat", "fox"):
        ear = [(x + side * w * 0.25, y - h * 0.85), (x + side * w * 0.86, y - h * 1.42), (out, y - h * 0.25)]
        canvas.drawPath(polygon(ear), skin)
        canvas.drawPath(polygon(ear), edge)
        middle = [(0.5 * px + 0.5 * x + side * w * 0.36, 0.5 * py + 0.5 * (y - h * 0.85)) for px, py in ear]
        canvas.drawPath(polygon(middle), inner)
    elif c.species in ("bear", "monkey", "pig"):
        place = (x + side * w * 0.78, y - h * 0.78) if c.species != "monkey" else (out + side * 0.03, y - 0.02)
        canvas.drawCircle(*place, size * 1.5, skin)
        canvas.drawCircle(*place, size * 1.5, edge)
        canvas.drawCircle(*place, size * 0.85, inner)
    elif c.species == "rabbit":
        ear = oval(x + side * w * 0.45, y - h * 1.2, size * 1.05, h * 0.62)
        canvas.drawOval(ear, skin)
        canvas.drawOval(ear, edge)
        canvas.drawOval(oval(x + side * w * 0.45, y - h * 1.2, size * 0.5, h * 0.5), inner)
    elif c.species == "dog":
        ear = smooth([(x + side * w * 0.6, y - h * 0.85), (out + side * 0.07, y - h * 0.4),
                      (out + side * 0.06, y + h * 0.35), (out - side * 0.03, y + h * 0.1)])
        canvas.drawPath(ear, fill(mix(c.skin, OUTLINE, 0.3)))
        canvas.drawPath(ear, edge)
    elif c.species == "frog":
        canvas.drawCircle(x + side * c.eye_gap, y - c.eye_y - 0.03, c.eye_size * 1.7, skin)
        canvas.drawCircle(x + side * c.eye_gap, y - c.eye_y - 0.03, c.eye_size * 1.7, edge)
    else:
        canvas.drawOval(oval(out, y, size * 0.7, size), skin)
        canvas.drawOval(oval(out, y, size * 0.7, size), edge)


def draw_hair(canvas: skia.Canvas, c: Character) -> None:
    """The hair over the forehead."""
    if c.hair == "bald":
        return
    x, y, w, h = c.head_x, c.head_y, c.head_width, c.head_height
    paint, edge = fill(c.hair_colour), line(mix(c.hair_colour, OUTLINE, 0.5), 0.009)
    crown = [(x - w - 0.015, y - h * 0.1), (x - w * 0.8, y - h * 0.8), (x, y - h - 0.035), (x + w * 0.8, y - h * 0.8),
             (x + w + 0.015, y - h * 0.1)]
    brow = y - c.eye_y - c.eye_size * c.eye_shape - 0.065
    part = x - w * 0.3
    fronts = {
        "short": [(x + w * 0.86, brow - 0.03), (x, brow - 0.065), (x - w * 0.86, brow - 0.03)],
        "bangs": [(x + w * 0.86, brow + 0.03), (x + w * 0.4, brow + 0.02), (x, brow + 0.025),
                  (x - w * 0.4, brow + 0.02), (x - w * 0.86, brow + 0.03)],
        "parted": [(x + w * 0.9, brow + 0.06), (x + w * 0.35, brow - 0.02), (part, brow - 0.1),
                   (x - w * 0.8, brow + 0.04)],
        "spiky": [(x + w * 0.86, brow), (x + w * 0.5, brow - 0.08), (x + w * 0.2, brow), (x - w * 0.1, brow - 0.08),
                  (x - w * 0.4, brow), (x - w * 0.86, brow - 0.05)],
    }  # fmt: skip
    front = fronts.get(c.hair, fronts["parted"] if c.hair in ("long", "bob") else fronts["short"])
    path = polygon([*crown, *front]) if c.hair == "spiky" else smooth([*crown, *front])
    canvas.drawPath(path, paint)
    canvas.drawPath(path, edge)
    if c.hair == "spiky":
        for k in range(5):
            angle = math.pi * (0.12 + 0.19 * k)
            tip = (x - 1.28 * w * math.cos(angle), y - 1.22 * h * math.sin(angle))
            foot = [(x - 0.95 * w * math.cos(angle + d), y - 0.97 * h * math.sin(angle + d)) for d in (-0.22, 0.22)]
            canvas.drawPath(polygon([foot[0], tip, foot[1]]), paint)


def draw_hat(canvas: skia.Canvas, c: Character) -> None:
    """The hat."""
    if c.hat == "none":
        return
    x, y, w, h = c.head_x, c.head_y, c.head_width, c.head_height
    paint, dark = fill(c.hat_colour), fill(mix(c.hat_colour, OUTLINE, 0.35))
    rim = y - h * 0.62
    if c.hat in ("cap", "beanie"):
        dome = smooth([(x - w - 0.02, rim), (x - w * 0.8, y - h * 1.02), (x, y - h - 0.075),
                       (x + w * 0.8, y - h * 1.02), (x + w + 0.02, rim)])
        canvas.drawPath(dome, paint)
        brim = oval(x, rim, w + 0.06, 0.032) if c.hat == "cap" else oval(x, rim, w + 0.03, 0.045)
        canvas.drawOval(brim, dark)
        if c.hat == "beanie":
            canvas.drawCircle(x, y - h - 0.08, 0.05, dark)
    elif c.hat == "tophat":
        canvas.drawRect(skia.Rect.MakeLTRB(x - w * 0.68, y - h - 0.16, x + w * 0.68, y - h * 0.76), paint)
        canvas.drawRect(skia.Rect.MakeLTRB(x - w * 0.68, y - h * 0.9, x + w * 0.68, y - h * 0.78), dark)
        canvas.drawOval(oval(x, y - h * 0.76, w * 1.08, 0.035), paint)
    elif c.hat == "bow":
        for side in (-1, 1):
            canvas.drawPath(polygon([(x + w * 0.4, y - h * 0.9), (x + w * 0.4 + side * 0.1, y - h * 0.9 - 0.06),
                                     (x + w * 0.4 + side * 0.1, y - h * 0.9 + 0.06)]), paint)
        canvas.drawCircle(x + w * 0.4, y - h * 0.9, 0.03, dark)
    else:
        canvas.drawArc(oval(x, y - 0.02, w + 0.03, h + 0.04), 185, 170, False, line(c.hat_colour, 0.035))
        for side in (-1, 1):
            canvas.drawOval(oval(x + side * (w + 0.03), y + 0.01, 0.045, 0.085), dark)
