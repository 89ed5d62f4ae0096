"""A drawn face and a spoken-like sound, so that the demo needs no file from elsewhere."""

import numpy as np
from PIL import Image, ImageDraw

from stableavatar_jax.media import SAMPLE_RATE
from stableavatar_jax.shapes import Float

VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (570, 840, 2410), (530, 1840, 2480), (300, 870, 2240))
"""First three resonances, in Hz, of a, i, o, e, u (Peterson and Barney's averages)."""


def draw_character(size: int = 512) -> Image.Image:
    """A cartoon head and shoulders, RGB."""
    image = Image.new("RGB", (size, size), (196, 218, 226))
    draw = ImageDraw.Draw(image)

    def ellipse(x: float, y: float, width: float, height: float, colour: tuple[int, int, int]) -> None:
        box = [(x - width / 2) * size, (y - height / 2) * size, (x + width / 2) * size, (y + height / 2) * size]
        draw.ellipse(box, fill=colour)

    ellipse(0.5, 1.08, 0.85, 0.62, (58, 92, 140))  # shoulders
    ellipse(0.5, 0.74, 0.2, 0.3, (222, 168, 132))  # neck
    ellipse(0.5, 0.4, 0.54, 0.6, (86, 52, 36))  # hair
    ellipse(0.5, 0.48, 0.46, 0.54, (236, 186, 150))  # face
    for side in (-1, 1):
        ellipse(0.5 + side * 0.1, 0.43, 0.09, 0.06, (250, 250, 250))
        ellipse(0.5 + side * 0.1, 0.43, 0.04, 0.045, (60, 90, 60))
        draw.line([((0.5 + side * x) * size, 0.375 * size) for x in (0.055, 0.145)], (70, 44, 30), size // 64)
    ellipse(0.5, 0.53, 0.05, 0.035, (216, 160, 126))  # nose
    ellipse(0.5, 0.63, 0.15, 0.05, (170, 70, 72))  # mouth
    return image


def speak(seconds: float) -> Float[np.ndarray, "S"]:
    """Vowels one after another in a falling melody, 16 kHz; float32 in -1..1."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    syllable = (t * 4).astype(int)  # four a second
    pitch = 130 - 12 * (t % 1.5) + 4 * np.sin(2 * np.pi * 5 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    formants = np.asarray(VOWELS)[syllable * 7 % 5 * (syllable > 0)]
    sound = np.zeros_like(t)
    for harmonic in range(1, 30):
        distance = (harmonic * pitch[:, None] - formants) / (60 + 0.06 * formants)
        sound += np.sin(harmonic * phase) * (1 / (1 + distance**2)).sum(1)
    sound *= np.sin(np.pi * (t * 4 % 1)) ** 0.5 * (syllable % 6 != 5)  # every sixth syllable is a pause
    return (0.6 * sound / np.abs(sound).max()).astype(np.float32)
