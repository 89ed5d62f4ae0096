"""The image encoder: the vision transformer of CLIP (ViT-H/14), with the resize it expects in front."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from stableavatar_jax.models.attention import attention
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import CLIPVisionConfig
from stableavatar_jax.models.layers import Axes, LayerNorm, Linear, named, stack
from stableavatar_jax.shapes import Array, Float

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
"""Mean colour of CLIP's training pictures, of red, green and blue in 0..1."""
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
"""Standard deviation of the same."""


class CLIPVision(nn.Module):
    """Pictures to tokens of their content."""

    config: CLIPVisionConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W 3"], output: Literal["tokens", "embedding"] = "tokens"
    ) -> Float[Array, "B L D"] | Float[Array, "B E"]:
        """Encode pictures of any size with values in -1..1, their aspect ratio not kept.

        `tokens` are those of the last layer but one, the class token first: what Wan reads. `embedding` is the
        class token after the whole tower, in the space CLIP compares pictures and texts in, not normalised.
        """
        config = self.config
        x = resize_bicubic(image.astype(jnp.float32), config.image_size)
        x = Patches(config, self.compute, name="patches")(normalise(x))
        x = norm(self.compute, "pre_norm")(x)
        tokens = stack(Block(config, self.compute, name="layers"), config.layers - 1, x)

        # Under jit nothing below is computed for an output of tokens; it is here so that all weights have their place.
        x = Block(config, self.compute, name="last_layer")(tokens)
        x = norm(self.compute, "post_norm")(x[:, 0])
        embedding = linear(self.compute, config.embedding_dim, ("embed", None), "head", use_bias=False)(x)
        return {"tokens": tokens, "embedding": embedding}[output]

    def example(self) -> tuple[jax.ShapeDtypeStruct]:
        """Shape of the input, for `init`."""
        return (jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32),)


class Patches(nn.Module):
    """The class token, then one token for each patch in reading order, all with learned positions."""

    config: CLIPVisionConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B L D"]:
        """Project the patches of square pictures of `image_size`."""
        config = self.config
        patch, dim = config.patch, config.dim
        kernel = self.weight("kernel", (None, None, None, "embed"), (patch, patch, 3, dim))
        token = self.weight("class_token", ("embed",), (dim,))
        positions = self.weight("positions", (None, "embed"), (1 + (config.image_size // patch) ** 2, dim))

        pixels = rearrange(image.astype(self.compute.dtype), "B (H h) (W w) C -> B (H W) h w C", h=patch, w=patch)
        x = jnp.einsum("blhwc,hwcd->bld", pixels, kernel)
        return jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, dim)), x], axis=1) + positions

    def weight(self, name: str, axes: Axes, shape: tuple[int, ...]) -> Array:
        """A parameter in the type of the computation."""
        init = named(nn.initializers.normal(0.02), *axes)
        return self.param(name, init, shape, self.compute.param_dtype).astype(self.compute.dtype)


class Block(nn.Module):
    """Self-attention and a feed-forward with exact GELU, each on a normed input and added to it."""

    config: CLIPVisionConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """One transformer layer over the tokens of each picture."""
        config = self.config
        qkv = linear(self.compute, 3 * config.dim, ("embed", "heads"), "qkv")(norm(self.compute, "norm1")(x))
        q, k, v = rearrange(qkv, "B L (three N K) -> three B L N K", three=3, N=config.heads)
        read = rearrange(attention(q, k, v, self.compute), "B L N K -> B L (N K)")
        x = x + linear(self.compute, config.dim, ("heads", "embed"), "out")(read)
        up = linear(self.compute, config.mlp_ratio * config.dim, ("embed", "mlp"), "up")(norm(self.compute, "norm2")(x))
        return x + linear(self.compute, config.dim, ("mlp", "embed"), "down")(nn.gelu(up, approximate=False))


def linear(compute: Compute, features: int, axes: Axes, name: str, *, use_bias: bool = True) -> Linear:
    """A linear layer by its name."""
    return Linear(features, axes, use_bias, compute, name=name)


def norm(compute: Compute, name: str) -> LayerNorm:
    """A LayerNorm with CLIP's epsilon."""
    return LayerNorm(eps=1e-5, compute=compute, name=name)


def normalise(image: Float[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
    """Pixels in -1..1 to the zero mean and unit variance of CLIP's training pictures."""
    return (image * 0.5 + 0.5 - MEAN) / STD


def resize_bicubic(image: Float[Array, "B H W C"], size: int) -> Float[Array, "B size size C"]:
    """Resize to `size` by `size` pixels as PyTorch's `interpolate(mode="bicubic")` does: no antialias, no clamp."""
    rows, columns = (bicubic_weights(length, size) for length in image.shape[1:3])
    return jnp.einsum("sh,bhwc,tw->bstc", rows, image, columns, precision=jax.lax.Precision.HIGHEST)


def bicubic_weights(old: int, new: int, a: float = -0.75) -> np.ndarray:
    """Float32 matrix `[new, old]` of cubic convolution (Keys 1981): half-pixel centres, edge pixels repeated.

    `a` is the slope of the kernel at distance 1, PyTorch's -0.75; Pillow's and jax.image's is -0.5.
    """
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    taps = np.floor(centre)[:, None] + np.arange(-1, 3)
    d = np.abs(centre[:, None] - taps)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    weights = np.zeros((new, old))
    np.add.at(weights, (np.arange(new)[:, None], np.clip(taps, 0, old - 1).astype(int)), np.where(d <= 1, near, far))
    return weights.astype(np.float32)
