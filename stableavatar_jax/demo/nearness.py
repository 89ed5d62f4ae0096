"""Whether a picture is near the world that the small avatar was trained on, by how its autoencoder reproduces it.

The autoencoder keeps the edges of drawn characters and little else. So decibels alone say nothing (a blurred photograph
has many), but decibels above those of the picture shrunk to half and enlarged again do.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.config import from_json, to_json
from stableavatar_jax.demo.config import NEARNESS
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation.video import Codec
from stableavatar_jax.media import as_bytes, centred
from stableavatar_jax.sampling.config import Frame
from stableavatar_jax.shapes import Float
from stableavatar_jax.whole import whole

SMALLEST_ERROR = 1e-5
"""Mean squared error (of -1..1) below which nothing is better: that of rounding to 8 bits."""
AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """The content of `NEARNESS` beside the weights."""

    threshold: float
    """Gain in decibels below which a picture is far."""
    characters: int
    """Held-out characters it was measured on."""
    lowest: float
    """Their lowest gain."""
    median: float
    """Their median gain."""


def fit(picture: Image.Image, frame: Frame) -> Float[np.ndarray, "H W 3"]:
    """The picture as a video of this frame would show it."""
    return media.fit_picture(picture, frame.height, frame.width, frame.fit, frame.crop)


def gains(codec: Codec, pictures: Sequence[Float[np.ndarray, "H W 3"]]) -> Float[np.ndarray, "N"]:
    """Decibels by which the autoencoder reproduces each picture better than halving its size does."""
    found = []
    for start in range(0, len(pictures), AT_ONCE):
        given = np.stack(pictures[start : start + AT_ONCE])
        kept = codec(given[:, None])[:, 0]
        found.append(_decibels(kept, given) - _decibels(np.stack([_halved(picture) for picture in given]), given))
    return np.concatenate(found)


def write_nearness(folder: Path, nearness: Nearness) -> Path:
    """Write the file into a model directory."""
    path = folder / NEARNESS
    with whole(path) as partial:
        partial.write_text(json.dumps(to_json(nearness), indent=2) + "\n")
    return path


def read_nearness(folder: Path) -> Nearness:
    """The file of a model directory. Raises Mistake where it is missing or malformed."""
    path = folder / NEARNESS
    try:
        return from_json(Nearness, json.loads(path.read_text()), file=path)
    except OSError as error:
        advice = "make it with `python -m stableavatar_jax.demo threshold`"
        raise Mistake(f"{path}: cannot be read ({error.strerror}); {advice}") from None
    except json.JSONDecodeError as error:
        raise Mistake(f"{path}: not valid JSON ({error}); make it again") from None


def _halved(picture: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    image = Image.fromarray(as_bytes(picture))
    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    return centred(np.asarray(small.resize(image.size, Image.Resampling.BICUBIC)))


def _decibels(a: Float[np.ndarray, "N H W 3"], b: Float[np.ndarray, "N H W 3"]) -> Float[np.ndarray, "N"]:
    error = np.square(a.astype(np.float64) - b).mean((1, 2, 3))
    return 10 * np.log10(4 / np.maximum(error, SMALLEST_ERROR))
