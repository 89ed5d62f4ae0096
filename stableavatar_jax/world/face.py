"""Head, eyes, nose and mouth of a character in a pose."""

from dataclasses import dataclass

import skia

from stableavatar_jax.world.character import Character, Colour, mix
from stableavatar_jax.world.paint import OUTLINE, fill, gradient, line, oval, smooth


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Everything that moves."""

    opening: float = 0.0
    """Opening of the mouth, 0 shut to 1."""
    width: float = 0.5
    """Width of the mouth: 0 rounded, 0.5 at rest, 1 stretched."""
    blink: float = 0.0
    """0 open to 1 shut."""
    brows: float = 0.0
    """-1 lowered to 1 raised."""
    x: float = 0.0
    """Place of the head to the right, in shares of the picture's width."""
    y: float = 0.0
    """Place of the head downwards, in shares of the picture's width."""
    roll: float = 0.0
    """Rotation of the head about the neck, clockwise, in degrees."""
    gaze_x: float = 0.0
    """-1 to 1."""
    gaze_y: float = 0.0
    """-1 to 1."""


def head_path(c: Character, opening: float = 0.0) -> skia.Path:
    """The head's outline; the chin goes down a little as the mouth opens."""
    w, h, x, y = c.head_width, c.head_height, c.head_x, c.head_y
    chin = y + h + 0.018 * opening
    cheek = w * (0.72 + 0.16 * c.jaw)
    side = [(w * 0.62, -h * 0.86), (w, -h * 0.2), (w * 0.97, h * 0.25), (cheek, h * 0.68)]
    if c.species != "person":
        side = [(w * 0.66, -h * 0.84), (w, -h * 0.15), (w * 1.02, h * 0.32), (w * 0.76, h * 0.76)]
    right = [(x + dx, y + dy) for dx, dy in side]
    left = [(x - dx, y + dy) for dx, dy in reversed(side)]
    return smooth([(x, y - h), *right, (x + w * 0.3 * (0.6 + 0.6 * c.jaw), chin - 0.006), (x, chin),
                   (x - w * 0.3 * (0.6 + 0.6 * c.jaw), chin - 0.006), *left])


def draw_head(canvas: skia.Canvas, c: Character, pose: Pose) -> None:
    """The face without hair and hat."""
    head = head_path(c, pose.opening)
    canvas.drawPath(head, fill(c.skin))
    canvas.save()
    canvas.clipPath(head, doAntiAlias=True)
    near, far = (c.head_x + c.light * c.head_width, c.head_x - c.light * c.head_width)
    canvas.drawPath(head, gradient((near, c.head_y - 0.1), (far, c.head_y + 0.1),
                                   [((255, 250, 235), 0.10), ((40, 20, 50), 0.0), ((40, 20, 50), c.shade)]))
    if c.species != "person":
        _draw_muzzle(canvas, c)
    for side in (-1, 1):
        if c.blush:
            place = oval(c.head_x + side * c.head_width * 0.62, c.head_y + c.head_height * 0.32, 0.06, 0.04)
            canvas.drawOval(place, fill((240, 96, 100), c.blush))
        for dx, dy in ((0.10, 0.06), (0.13, 0.085), (0.155, 0.05)) if c.freckles else ():
            canvas.drawCircle(c.head_x + side * dx, c.head_y + dy, 0.007, fill(mix(c.skin, (120, 60, 30), 0.6)))
    if c.beard:
        lower = oval(c.head_x, c.head_y + c.head_height * 0.95, c.head_width, c.head_height * 0.72)
        canvas.drawOval(lower, fill(c.hair_colour, 0.92))
    canvas.restore()
    canvas.drawPath(head, line(mix(c.skin, OUTLINE, 0.75), 0.012))
    for side in (-1, 1):
        _draw_eye(canvas, c, pose, side)
    draw_mouth(canvas, c, pose)
    _draw_nose(canvas, c)


def _draw_muzzle(canvas: skia.Canvas, c: Character) -> None:
    y = mouth_centre(c) - 0.005
    if c.species == "monkey":
        canvas.drawOval(oval(c.head_x, y - 0.22, c.head_width * 0.8, 0.12), fill(c.muzzle))
    canvas.drawOval(oval(c.head_x, y + 0.02, 1.4 * c.mouth_width, 0.155), fill(c.muzzle))


def _draw_eye(canvas: skia.Canvas, c: Character, pose: Pose, side: int) -> None:
    x, y = c.head_x + side * c.eye_gap, c.head_y - c.eye_y
    half, tall = c.eye_size, c.eye_size * c.eye_shape * (1 - 0.92 * pose.blink)
    white = oval(x, y, half, max(tall, 0.004))
    lid = mix(c.skin, OUTLINE, 0.8)
    canvas.save()
    canvas.clipPath(skia.Path.Oval(white), doAntiAlias=True)
    canvas.drawOval(white, fill((250, 250, 246)))
    gaze = (x + 0.35 * half * pose.gaze_x, y + 0.3 * half * pose.gaze_y)
    canvas.drawCircle(*gaze, half * 0.66, fill(c.iris))
    canvas.drawCircle(*gaze, half * 0.36, fill((18, 14, 18)))
    canvas.drawCircle(gaze[0] + 0.25 * half, gaze[1] - 0.25 * half, half * 0.18, fill((255, 255, 255)))
    canvas.restore()
    canvas.drawOval(white, line(lid, 0.009))
    top = y - tall
    if c.lashes:
        upper = [(x - half, y - 0.3 * tall), (x, top - 0.004), (x + half, y - 0.3 * tall)]
        canvas.drawPath(smooth(upper, closed=False), line(lid, 0.016))
    if c.glasses:
        canvas.drawCircle(x, y, c.eye_gap * 0.82, line((40, 40, 52), 0.014))
        canvas.drawLine(c.head_x, y - 0.01, c.head_x + side * c.eye_gap * 0.2, y - 0.01, line((40, 40, 52), 0.014))
    lift = c.eye_size * c.eye_shape + 0.034 + 0.022 * pose.brows
    tilt = 0.03 * c.brow_tilt
    brow = c.hair_colour if c.species == "person" and c.hair != "bald" else mix(c.skin, OUTLINE, 0.7)
    canvas.drawPath(
        smooth([(x - side * half * 0.9, y - lift + tilt), (x, y - lift - 0.012), (x + side * half, y - lift - tilt)],
               closed=False),
        line(mix(brow, OUTLINE, 0.25), c.brow_thickness),
    )


def _draw_nose(canvas: skia.Canvas, c: Character) -> None:
    x, size = c.head_x, c.nose_size
    y = mouth_centre(c) - 0.36 * c.mouth_height - 0.03 - size
    if c.species == "pig":
        canvas.drawOval(oval(x, y, 0.075, 0.045), fill(mix(c.skin, (200, 80, 100), 0.4)))
        for side in (-1, 1):
            canvas.drawOval(oval(x + side * 0.028, y, 0.013, 0.02), fill(OUTLINE))
    elif c.species == "frog":
        for side in (-1, 1):
            canvas.drawCircle(x + side * 0.03, y, 0.009, fill(mix(c.skin, OUTLINE, 0.7)))
    elif c.species != "person":
        canvas.drawPath(smooth([(x - 0.045, y - 0.022), (x + 0.045, y - 0.022), (x, y + 0.03)]), fill((58, 40, 44)))
        canvas.drawOval(oval(x - 0.012, y - 0.016, 0.014, 0.006), fill((255, 255, 255), 0.6))
    elif c.nose_style == 0:
        canvas.drawOval(oval(x, y, size * 0.9, size * 0.75), fill(mix(c.skin, (190, 80, 70), 0.35)))
    elif c.nose_style == 1:
        bend = [(x - size * 0.2, y - size * 1.6), (x + size * 0.8, y + size * 0.4), (x - size * 0.4, y + size * 0.7)]
        canvas.drawPath(smooth(bend, closed=False), line(mix(c.skin, OUTLINE, 0.55), 0.012))
    else:
        for side in (-1, 1):
            canvas.drawCircle(x + side * size * 0.5, y + size * 0.4, 0.010, fill(mix(c.skin, OUTLINE, 0.6)))


def mouth_centre(c: Character) -> float:
    """Height of the shut mouth, from the picture's top."""
    return c.head_y + c.mouth_y * c.head_height


def lip_region(c: Character) -> skia.Rect:
    """The rectangle, in the head's coordinates, that holds the mouth at any opening and width."""
    half, y = 1.2 * c.mouth_width + c.lip_thickness, mouth_centre(c)
    return skia.Rect.MakeLTRB(
        c.head_x - half, y - 0.3 * c.mouth_height - 0.03, c.head_x + half, y + 0.7 * c.mouth_height + 0.03
    )


def draw_mouth(canvas: skia.Canvas, c: Character, pose: Pose) -> None:
    """Lips around an opening with teeth and tongue; shut, they are a line.

    The lower lip takes 70% of the way. Rounding narrows the mouth and pushes the lips out, stretching widens it.
    """
    x, y = c.head_x, mouth_centre(c)
    half = c.mouth_width * (0.62 + 0.5 * pose.width) * (1 - 0.12 * pose.opening)
    tall = c.mouth_height * pose.opening * (1.0 - 0.15 * abs(pose.width - 0.5))
    pout = c.lip_thickness * (1.25 - 0.5 * pose.width)
    corner = y - c.smile * (0.4 + 0.6 * pose.width) + 0.15 * tall
    top, bottom = y - 0.3 * tall, y + 0.7 * tall

    canvas.drawPath(_ring(x, corner, half, top, bottom, pout), fill(c.lips))
    inside = _ring(x, corner, half, top, bottom)
    if tall > 0.004:
        canvas.save()
        canvas.clipPath(inside, doAntiAlias=True)
        canvas.drawPath(inside, fill(c.mouth_inside))
        tongue: Colour = (206, 92, 100)
        canvas.drawOval(oval(x, bottom + 0.012, half * 0.62, 0.26 * tall + 0.012), fill(tongue))
        teeth = skia.Rect.MakeLTRB(x - half, top - 0.02, x + half, top + 0.012 + 0.2 * tall)
        canvas.drawRect(teeth, fill((250, 248, 240)))
        canvas.restore()
    canvas.drawPath(inside, line(mix(c.lips, (50, 10, 20), 0.7), 0.009))


def _ring(x: float, corner: float, half: float, top: float, bottom: float, grow: float = 0.0) -> skia.Path:
    """The mouth's opening, grown on all sides."""
    w, up, low = half + grow, top - grow, bottom + grow
    return smooth([
        (x - w, corner), (x - 0.55 * w, 0.72 * up + 0.28 * corner), (x, up + 0.15 * grow),
        (x + 0.55 * w, 0.72 * up + 0.28 * corner), (x + w, corner),
        (x + 0.58 * w, 0.78 * low + 0.22 * corner), (x, low), (x - 0.58 * w, 0.78 * low + 0.22 * corner),
    ])  # fmt: skip


def tilt_point(c: Character) -> tuple[float, float]:
    """What the head rolls about."""
    return c.head_x, c.head_y + c.head_height * 1.1
