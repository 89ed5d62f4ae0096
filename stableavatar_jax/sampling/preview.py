"""A rough picture of the first window while it is denoised, without the decoder."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import PIXELS_PER_LATENT
from stableavatar_jax.media import as_bytes, write_picture
from stableavatar_jax.sampling.progress import Encoded, Event, Rough
from stableavatar_jax.shapes import Array, Float

PICTURES = 10
"""Pictures of a run, one after another in the same file."""
RIDGE = 1e-3
"""Weight of the fit's regularisation, relative to the latents' variance: a small picture has few latents to fit."""


class Preview:
    """A listener that writes a picture of what the first window is becoming.

    The picture shows the clean latents that the last two steps point at, x0 = z - s dz/ds with noise level s, through
    a linear map from latents to colours. It is fitted to the reference picture and its own latents.
    """

    def __init__(self, path: Path, picture: Float[np.ndarray, "H W 3"], levels: Float[np.ndarray, "levels"]):
        """`picture` is the reference, -1..1, at the size of the video; `levels` are the noise levels of all steps."""
        self._path, self._picture, self._levels = path, picture, levels
        self._reference: Float[np.ndarray, "h w Y"] | None = None
        self._map: Float[np.ndarray, "K 3"] | None = None
        self._before: tuple[int, Array] | None = None  # steps, and the latents then, on the device

    def __call__(self, event: Event) -> None:
        """Take the reference's latents; write a picture every few steps."""
        match event:
            case Encoded(conditions):
                self._reference = conditions.reference[0]
            case Rough(steps, first) if self._is_due(steps) or self._is_due(steps + 1):
                z = first()
                z = z[len(z) // 2]
                if self._is_due(steps):
                    self._show(steps, z)
                self._before = steps, z

    def _is_due(self, steps: int) -> bool:
        last = len(self._levels) - 1
        return steps == last or steps % max(2, last // PICTURES) == 0

    def _show(self, steps: int, z: Array) -> None:
        s = float(self._levels[steps])
        now = np.asarray(z, np.float32)
        if s > 0:
            if self._before is None or self._before[0] != steps - 1:
                return  # the run was taken up again between the two
            slope = (now - np.asarray(self._before[1], np.float32)) / (s - float(self._levels[steps - 1]))
            now = now - s * slope
        if self._map is None:
            assert self._reference is not None
            self._map = colour_map(self._reference[..., -now.shape[-1] :], self._picture)
        height, width, _ = self._picture.shape
        image = Image.fromarray(as_bytes(colours(now, self._map).clip(-1, 1)))
        try:
            write_picture(self._path, image.resize((width, height), Image.Resampling.BICUBIC))
        except (Mistake, OSError) as error:
            print(f"{error}\nthe run goes on without a preview", file=sys.stderr)
            self._levels = self._levels[:1]


def colour_map(z: Float[np.ndarray, "h w C"], picture: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "K 3"]:
    """The linear map, with a constant, that gives the mean colour of each square of the picture from its latents."""
    side = PIXELS_PER_LATENT
    squares = picture.reshape(len(z), side, z.shape[1], side, 3).mean((1, 3)).reshape(-1, 3)
    known = z.reshape(-1, z.shape[-1]).astype(np.float64)
    middle, colour = known.mean(0), squares.mean(0)
    known = known - middle
    products = known.T @ known
    products += RIDGE * (np.trace(products) / len(products) + 1e-9) * np.eye(len(products))
    slopes = np.linalg.solve(products, known.T @ (squares - colour))
    return np.concatenate([slopes, (colour - middle @ slopes)[None]]).astype(np.float32)


def colours(z: Float[np.ndarray, "h w C"], by: Float[np.ndarray, "K 3"]) -> Float[np.ndarray, "h w 3"]:
    """Colours of latents, -1..1 or a little beyond."""
    return z @ by[:-1] + by[-1]
