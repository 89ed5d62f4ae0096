"""The background of a character, and its clothes."""

import skia

from stableavatar_jax.world.character import Character, mix
from stableavatar_jax.world.paint import OUTLINE, fill, gradient, line, oval, polygon, smooth


def draw_background(canvas: skia.Canvas, c: Character) -> None:
    """The picture behind the character, all of it."""
    first, second, third = c.backdrop
    p = c.pattern
    canvas.drawPaint(fill(first))
    if c.background in ("gradient", "hills", "window"):
        canvas.drawPaint(gradient((0, 0), (0.3 * p[0], 1), [(first, 1), (second, 1)]))
    if c.background == "hills":
        canvas.drawCircle(0.12 + 0.12 * p[1], 0.14, 0.07, fill((255, 244, 190)))
        canvas.drawOval(oval(0.1 * p[2], 0.95, 0.5, 0.35 + 0.1 * p[3]), fill(third))
        canvas.drawOval(oval(0.95, 1.0, 0.45, 0.45 + 0.1 * p[4]), fill(mix(third, second, 0.4)))
    elif c.background == "stripes":
        step = 0.14 + 0.1 * p[0]
        for i in range(9):
            left = (i - 1) * step + p[1] * step
            canvas.drawPath(polygon([(left, 0), (left + step / 2, 0), (left + step / 2 + 0.3 * p[2], 1),
                                     (left + 0.3 * p[2], 1)]), fill(second))
    elif c.background == "circles":
        for x, y, r in ((0.1, 0.2, 0.12), (0.9, 0.3, 0.16), (0.15, 0.75, 0.15), (0.8, 0.8, 0.1), (0.5, 0.05, 0.1)):
            canvas.drawCircle(x + 0.1 * (p[0] - 0.5), y + 0.1 * (p[1] - 0.5), r * (0.7 + 0.6 * p[2]), fill(second))
    elif c.background == "window":
        left = 0.02 + 0.1 * p[1] if p[2] < 0.5 else 0.66 + 0.1 * p[1]
        frame = skia.Rect.MakeLTRB(left, 0.08, left + 0.26, 0.52)
        canvas.drawRect(frame, fill((206, 232, 246)))
        canvas.drawRect(frame, line(third, 0.025))
        canvas.drawLine(left + 0.13, 0.08, left + 0.13, 0.52, line(third, 0.018))
    elif c.background == "wall":
        canvas.drawRect(skia.Rect.MakeLTRB(0, 0.62 + 0.2 * p[0], 1, 1), fill(second))
        canvas.drawRect(skia.Rect.MakeLTRB(0.04 + 0.1 * p[1], 0.1, 0.22 + 0.1 * p[1], 0.3), fill(third))


def draw_body(canvas: skia.Canvas, c: Character) -> None:
    """Neck, shoulders and clothes; they keep still."""
    x, chin = c.head_x, c.head_y + c.head_height
    top = chin + 0.02
    w = c.shoulders
    neck = 0.09 if c.species == "person" else 0.12
    canvas.drawRect(skia.Rect.MakeLTRB(x - neck, chin - 0.12, x + neck, top + 0.08), fill(mix(c.skin, OUTLINE, 0.16)))
    body = smooth([(x - neck - 0.03, top), (x, top + 0.03), (x + neck + 0.03, top), (x + w * 0.8, top + 0.07),
                   (x + w, 1.04), (x + w, 1.3), (x - w, 1.3), (x - w, 1.04), (x - w * 0.8, top + 0.07)])
    canvas.drawPath(body, fill(c.cloth))
    canvas.save()
    canvas.clipPath(body, doAntiAlias=True)
    if c.garment == "stripes":
        for i in range(3):
            y = top + 0.085 + 0.1 * i
            canvas.drawRect(skia.Rect.MakeLTRB(0, y, 1, y + 0.045), fill(c.cloth_accent))
    canvas.drawPaint(gradient((x - w, 0), (x + w, 0), [((30, 20, 40), max(0, c.light) * 0.25), ((30, 20, 40), 0.0),
                                                     ((30, 20, 40), max(0, -c.light) * 0.25)]))
    canvas.restore()
    canvas.drawPath(body, line(mix(c.cloth, OUTLINE, 0.7), 0.011))
    if c.garment in ("collar", "tie"):
        for side in (-1, 1):
            wing = [(x, top + 0.05), (x + side * (neck + 0.05), top - 0.005), (x + side * 0.10, top + 0.13)]
            canvas.drawPath(polygon(wing), fill(mix(c.cloth, (255, 255, 255), 0.45)))
    if c.garment == "tie":
        canvas.drawPath(polygon([(x - 0.03, top + 0.06), (x + 0.03, top + 0.06), (x + 0.045, 1.1), (x - 0.045, 1.1)]),
                        fill(c.cloth_accent))
    elif c.garment == "scarf":
        canvas.drawOval(oval(x, top + 0.03, neck + 0.09, 0.055), fill(c.cloth_accent))
        canvas.drawOval(oval(x, top + 0.03, neck + 0.09, 0.055), line(mix(c.cloth_accent, OUTLINE, 0.6), 0.01))
    elif c.garment == "hoodie":
        for side in (-1, 1):
            canvas.drawLine(x + side * 0.06, top + 0.05, x + side * 0.07, top + 0.17, line((240, 240, 240), 0.012))
