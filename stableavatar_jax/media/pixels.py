"""Pixels as bytes, 0 to 255, and as the numbers that networks read, -1 to 1."""

from typing import Any

import numpy as np

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
