"""Pixels as bytes, 0 to 255, and as the numbers that networks read, -1 to 1."""

from typing import Any

import numpy as np

from stableavatar_jax.shapes import Float

TO_XYZ = (
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)
"""Linear sRGB to XYZ in units of the white point (IEC 61966-2-1)."""

HALF = 127.5
"""Half of the range of a byte: 0 is black and -1, 255 is white and 1."""


def centred(pixels: Any) -> Any:
    """Pixels 0..255 as float32 in -1..1. NumPy or JAX arrays."""
    return pixels.astype("float32") / np.float32(HALF) - 1


def as_bytes(pixels: Any) -> Any:
    """Pixels -1..1 as the nearest of 0..255: what `centred` came from, exactly. NumPy or JAX arrays."""
    return ((pixels + 1) * HALF).round().clip(0, 255).astype("uint8")


def postprocess(frames: Any) -> Any:
    """Decoded frames, float -1..1 -> uint8 0..255, clipped and truncated as the release does. NumPy or JAX arrays."""
    return ((frames / 2 + 0.5).clip(0, 1) * 255).astype("uint8")


def cielab(rgb: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """CIELAB (D65) of sRGB colours in 0..255."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    x, y, z = np.moveaxis(linear @ np.array(TO_XYZ).T, -1, 0)
    f = lambda t: np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)  # noqa: E731
    return np.stack([116 * f(y) - 16, 500 * (f(x) - f(y)), 200 * (f(y) - f(z))], -1)
