"""How far apart colours are for the eye: CIEDE2000 (CIE 142-2001, as Sharma, Wu and Dalal wrote it down in 2005)."""

import numpy as np

from stableavatar_jax.shapes import Float


def ciede2000(one: Float[np.ndarray, "*N 3"], other: Float[np.ndarray, "*M 3"]) -> Float[np.ndarray, "*K"]:
    """The difference of CIELAB colours under reference conditions; about 1 is just noticed side by side.

    Colours of two shapes are broadcast.
    """
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    strength = _seventh((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2)
    a1, a2 = (a * (1.5 - 0.5 * strength) for a in (a1, a2))  # greys are seen apart more easily
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    grey = c1 * c2 == 0
    turn = np.where(grey, 0, (h2 - h1 + 180) % 360 - 180)
    turn = np.where((turn == -180) & (h2 > h1), 180, turn)
    hue = np.where(grey, h1 + h2, h1 + turn / 2) % 360
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    return _distance(l2 - l1, c2 - c1, 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)), light, chroma, hue)


def _distance(
    lighter: Float[np.ndarray, "*N"],
    stronger: Float[np.ndarray, "*N"],
    turned: Float[np.ndarray, "*N"],
    light: Float[np.ndarray, "*N"],
    chroma: Float[np.ndarray, "*N"],
    hue: Float[np.ndarray, "*N"],
) -> Float[np.ndarray, "*N"]:
    """Differences in lightness, chroma and hue as one, weighted by what the eye sees at their mean."""

    def wave(times: int, ahead: int) -> Float[np.ndarray, "*N"]:
        return np.cos(np.radians(times * hue + ahead))

    t = 1 - 0.17 * wave(1, -30) + 0.24 * wave(2, 0) + 0.32 * wave(3, 6) - 0.20 * wave(4, -63)
    bent = (light - 50) ** 2
    lighter = lighter / (1 + 0.015 * bent / np.sqrt(20 + bent))
    stronger = stronger / (1 + 0.045 * chroma)
    turned = turned / (1 + 0.015 * chroma * t)
    blue = np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2)))
    across = -2 * _seventh(chroma) * np.sin(blue)
    return np.sqrt(lighter**2 + stronger**2 + turned**2 + across * stronger * turned)


def _seventh(chroma: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """From 0 for greys to 1 for strong colours."""
    return np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
