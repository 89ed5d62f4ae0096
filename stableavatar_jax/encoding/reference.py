"""The picture as reference: the same input for every window, in sampling and in training.

The picture is the first frame of a video that goes on in grey (the release) or with the picture again; its latents
are the reference, behind a mask that is 1 on the first latent frame and 0 on the others.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.diffusion.masks import first_frame_given
from stableavatar_jax.models.vae import VAE
from stableavatar_jax.shapes import Array, Float

AfterPicture = Literal["grey", "again"]

Posterior = tuple[Float[np.ndarray, "B F h w C"], Float[np.ndarray, "B F h w C"]]
"""Mean and log variance of latents."""


class LatentEncoder:
    """The VAE's encoder, given a video one latent frame at a time: little memory, two compilations for any length."""

    def __init__(self, vae: VAE, params: Any):
        self.step: int = vae.config.time_factor
        """Video frames of every latent frame but the first."""
        self._params = params
        self._encode = jitted(vae)

    def posterior(self, video: Iterable[Float[Array | np.ndarray, "B _ H W 3"]]) -> Posterior:
        """The posterior of a video, -1..1, that comes in pieces: one frame, then `step` frames each."""
        means, logvars, cache = [], [], None
        for piece in video:
            mean, logvar, cache = self._encode(self._params, jnp.asarray(piece), cache)
            means.append(np.asarray(mean, np.float32))
            logvars.append(np.asarray(logvar, np.float32))
        return np.concatenate(means, 1), np.concatenate(logvars, 1)


@functools.lru_cache(maxsize=4)
def jitted(vae: VAE) -> Callable[..., Any]:
    """`(params, pixels, cache) -> mean, logvar, cache` of a VAE's encoder, jitted once for all that are equal."""
    return jax.jit(
        lambda params, pixels, cache: vae.apply({"params": params}, pixels, cache, method="encode"), donate_argnums=2
    )


def reference_posterior(
    encoder: LatentEncoder, pictures: Float[Array | np.ndarray, "B H W 3"], latent_frames: int, after: AfterPicture
) -> Posterior:
    """The posterior of pictures, -1..1, each followed by grey frames or by itself."""
    first = jnp.asarray(pictures)[:, None]
    if after == "again":
        mean, logvar = encoder.posterior([first])
        return np.repeat(mean, latent_frames, axis=1), np.repeat(logvar, latent_frames, axis=1)
    grey = jnp.zeros((len(first), encoder.step, *first.shape[2:]), first.dtype)
    return encoder.posterior([first] + [grey] * (latent_frames - 1))


def encode_reference(
    encoder: LatentEncoder, picture: Float[np.ndarray, "H W 3"], latent_frames: int, after: AfterPicture = "grey"
) -> Float[np.ndarray, "F h w Y"]:
    """The transformer's input for one picture, -1..1: four mask channels, then the posterior's mean."""
    z = reference_posterior(encoder, picture[None], latent_frames, after)[0][0]
    mask = np.asarray(first_frame_given((z.shape[0], z.shape[1], z.shape[2])), z.dtype)
    return np.concatenate([mask, z], -1)
