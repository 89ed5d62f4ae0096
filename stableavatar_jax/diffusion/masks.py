"""Masks in the size of the latents: where the face is, and which frames are given."""

import jax
import jax.numpy as jnp
from einops import rearrange

from stableavatar_jax.shapes import Array, Float


def latent_masks(
    masks: Float[Array, "B T Hv Wv"], size: tuple[int, int, int]
) -> Float[Array, "B F H W"]:
    """Masks of a video, for the loss: one trilinear resize over frames, rows and columns, without antialias.

    `size` is latent frames, rows and columns. The release treats the first frame like every other one here.
    """
    return jax.image.resize(masks, (masks.shape[0], *size), "trilinear", antialias=False)


def given_mask(
    to_make: Float[Array, "B T Hv Wv"], size: tuple[int, int]
) -> Float[Array, "B F H W 4"]:
    """The four mask channels of the DiT's reference input, 1 where a pixel is given and 0 where it is to be made.

    `to_make` is the opposite, 1 for what is to be made, with T = 4k + 1 video frames. The first counts four times;
    channel c of latent frame i is then video frame 4i + c, resized to `size` rows and columns.
    """
    given = 1 - jnp.concatenate([jnp.repeat(to_make[:, :1], 4, 1), to_make[:, 1:]], 1)
    small = jax.image.resize(given, (*given.shape[:2], *size), "bilinear", antialias=False)
    return rearrange(small, "B (F c) H W -> B F H W c", c=4)


def first_frame_given(shape: tuple[int, int, int]) -> Float[Array, "F H W 4"]:
    """`given_mask` where the first frame is given and nothing else, as always in StableAvatar."""
    return jnp.zeros((*shape, 4)).at[0].set(1.0)
