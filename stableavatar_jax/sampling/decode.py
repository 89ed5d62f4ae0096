"""Latents to frames: one latent frame at a time through the decoder."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.media import postprocess
from stableavatar_jax.models.config import VAEConfig
from stableavatar_jax.models.vae import VAE
from stableavatar_jax.sampling.progress import Decoded, Tell, silent
from stableavatar_jax.shapes import Array, Float, UInt8


@functools.lru_cache(maxsize=4)
def decoder(config: VAEConfig) -> Callable[..., tuple[Array, Any]]:
    """One latent frame to uint8 frames, jitted: `decoder(config)(params, z [1 H W C], cache) -> frames, cache`."""
    vae = VAE(config)

    def one(params: Any, z: Array, cache: Any) -> tuple[Array, Any]:
        video, cache = vae.apply({"params": params}, z[None], cache, method="decode")  # type: ignore[misc]
        return postprocess(video[0]), cache

    return jax.jit(one, donate_argnums=2)


def decode(
    vae: VAE, params: Any, latents: Iterable[Float[np.ndarray, "n H W C"]], frames: int, tell: Tell = silent
) -> Iterator[UInt8[np.ndarray, "n H W 3"]]:
    """The first `frames` frames of the video, as they come; peak memory does not depend on the length.

    The first latent frame is one frame, every other four; each call of the decoder takes one.
    """
    one, cache, done = decoder(vae.config), None, 0
    for block in latents:
        for z in block:
            made, cache = one(params, jnp.asarray(z)[None], cache)
            video = np.asarray(made)[: frames - done]
            done += len(video)
            tell(Decoded(done, frames))
            yield video
            if done >= frames:
                return
