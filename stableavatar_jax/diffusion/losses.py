"""The training loss: squared error of the velocity, weighted by face and lip masks, and of its motion.

One of three weights is drawn (paper Eq. 11, shares as released): `all` is `1 + face + lip`, `face` and `lip` are the
masks themselves. Means run over all elements and are not divided by the area of a mask.
"""

from typing import Literal

import jax.numpy as jnp

from stableavatar_jax.diffusion.config import LossConfig
from stableavatar_jax.shapes import Array, Float, Int


def branch_of(u: Float[Array, "..."], config: LossConfig) -> Int[Array, "..."]:
    """Index in `BRANCHES` that a uniform draw in [0, 1) falls on."""
    first, second, _ = config.shares
    return (u >= first).astype(jnp.int32) + (u >= first + second).astype(jnp.int32)


def branch_weight(
    branch: Int[Array, "B"], face: Float[Array, "B F H W"], lip: Float[Array, "B F H W"]
) -> Float[Array, "B F H W 1"]:
    """Weight of every latent pixel, of each row's branch; the masks run from 0 to 1."""
    branch = branch[:, None, None, None]
    return jnp.where(branch == 0, 1 + face + lip, jnp.where(branch == 1, face, lip))[..., None]


def squared_error(
    velocity: Float[Array, "B F H W C"], target: Float[Array, "B F H W C"], weight: Array | float = 1.0
) -> Float[Array, "B"]:
    """Weighted squared error, the mean of each row over all its elements."""
    error = jnp.square(velocity.astype(jnp.float32) - target.astype(jnp.float32)) * weight
    return error.mean(axis=(1, 2, 3, 4))


def motion_error(
    velocity: Float[Array, "B F H W C"], target: Float[Array, "B F H W C"], axis: Literal["time", "channels"]
) -> Float[Array, "B"]:
    """Squared error of the differences between neighbouring frames, without masks; the mean of each row."""
    along = {"time": 1, "channels": -1}[axis]
    return squared_error(*(jnp.diff(x.astype(jnp.float32), axis=along) for x in (velocity, target)))


def combine(reconstruction: Array, motion: Array, config: LossConfig) -> Array:
    """The sum that is minimised: `(1 - motion share) * reconstruction + motion share * motion`."""
    return (1 - config.motion) * reconstruction + config.motion * motion
