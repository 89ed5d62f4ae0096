"""What training of the text and the image encoder compares: one vector a prompt, one a picture."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from stableavatar_jax.models.layers import Linear, named
from stableavatar_jax.shapes import Array, Bool, Float

START, LARGEST = 1 / 0.07, 100.0  # of the scale, as CLIP has them: beyond, single pairs decide and training is unstable


class Compared(NamedTuple):
    """Unit vectors of prompts and pictures in one space, and what their products are multiplied by."""

    texts: Float[Array, "B E"]
    pictures: Float[Array, "B E"]
    scale: Float[Array, ""]


class Contrast(nn.Module):
    """Tokens of prompts and pictures to vectors of one space (CLIP, Radford et al. 2021).

    It pools the very tokens that the transformer is given, so that what is learned is in them. Training alone uses it.
    """

    features: int
    """Width E of the space."""
    text_dim: int
    image_dim: int
    """Widths of the tokens, for `example`."""

    @nn.compact
    def __call__(
        self, texts: Float[Array, "B L T"], mask: Bool[Array, "B L"], pictures: Float[Array, "B I G"]
    ) -> Compared:
        """Mean of the tokens that are text; the class token beside the mean of the patches."""
        shown = mask.astype(jnp.float32)[..., None]
        text = (texts * shown).sum(1) / jnp.maximum(shown.sum(1), 1)
        picture = jnp.concatenate([pictures[:, 0], pictures[:, 1:].mean(1)], axis=-1)
        scale = self.param("log_scale", named(nn.initializers.constant(math.log(START))), ())
        return Compared(
            unit(Linear(self.features, ("embed", None), name="text")(text)),
            unit(Linear(self.features, ("embed", None), name="picture")(picture)),
            jnp.minimum(jnp.exp(scale), LARGEST),
        )

    def example(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes of the inputs, for `init`."""
        text, picture = (jax.ShapeDtypeStruct((1, 2, dim), jnp.float32) for dim in (self.text_dim, self.image_dim))
        return text, jax.ShapeDtypeStruct((1, 2), jnp.bool_), picture


def unit(x: Float[Array, "B E"]) -> Float[Array, "B E"]:
    """Rows of length 1, in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)
