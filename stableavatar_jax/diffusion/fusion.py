"""Velocities of overlapping windows blended into one for the whole video (paper 3.3).

At each step every window predicts from its frames of the same latents; where windows overlap the predictions are
blended from left to right. Walked in order, a window needs of those before it only the blended velocities of the frames
it shares with them: the tail.
"""

import math
from typing import get_args

import jax.numpy as jnp
import numpy as np

from stableavatar_jax.diffusion.windows import Fusion
from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Array, Float


def fusion_weights(overlap: int, kind: Fusion = "logarithmic") -> Float[Array, "overlap"]:
    """Share of the later window in the frames it shares with those before it.

    From 0 to 1 along `log(1 + x(e-1))` (paper 3.3) or along x, or one half throughout (paper Table 8).
    """
    if kind not in get_args(Fusion):
        raise Mistake(f"fusion {kind!r} is unknown; choose one of {', '.join(get_args(Fusion))}")
    x = np.linspace(0, 1, overlap)
    weights = {"logarithmic": np.log1p(x * (math.e - 1)), "linear": x, "fixed": np.full(overlap, 0.5)}[kind]
    return jnp.asarray(weights, jnp.float32)


def fuse(
    tail: Float[Array, "overlap *rest"], velocity: Float[Array, "F *rest"], weights: Float[Array, "overlap"]
) -> tuple[Float[Array, "overlap *rest"], Float[Array, "stride *rest"]]:
    """Blend a window's first velocities with the tail before it; its new tail, and the frames no window will change.

    The tail is already blended itself, so any overlap is right, also where more than two windows meet.
    """
    overlap = len(weights)
    weights = weights.reshape(-1, *(1,) * (velocity.ndim - 1))
    fused = jnp.concatenate([weights * velocity[:overlap] + (1 - weights) * tail, velocity[overlap:]])
    return fused[len(fused) - overlap :], fused[: len(fused) - overlap]
