"""The layers of the causal video autoencoder. Each takes a chunk and its own cache, and gives both back."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange

from stableavatar_jax.models.attention import attention
from stableavatar_jax.models.causal_conv import CausalConv, Form, FrameConv
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.layers import Linear, RMSNorm
from stableavatar_jax.shapes import Array, Float

Cache = tuple[Any, ...]
"""What a layer keeps of the frames it has seen: a tree of arrays, of the same shapes after every chunk."""


def chain(layers: list[nn.Module], x: Array, cache: Cache | None) -> tuple[Array, Cache]:
    """Run layers one after another, each with its own entry of the cache (None: where the video starts)."""
    kept = []
    for layer, past in zip(layers, (None,) * len(layers) if cache is None else cache, strict=True):
        x, past = layer(x, past)
        kept.append(past)
    return x, tuple(kept)


class Layer(nn.Module, kw_only=True):
    """What all layers here share: how convolutions are computed, and in what precision."""

    form: Form = "taps"
    compute: Compute = Compute()

    def _conv(self, features: int, name: str, **options: Any) -> CausalConv:
        return CausalConv(features, name=name, form=self.form, compute=self.compute, **options)

    def _frame_conv(self, features: int, name: str, **options: Any) -> FrameConv:
        return FrameConv(features, name=name, form=self.form, compute=self.compute, **options)

    def _linear(self, features: int, name: str) -> Linear:
        axes = ("vae_in", "vae_out")
        return Linear(features, axes=axes, name=name, compute=self.compute)

    def _norm(self, name: str) -> RMSNorm:
        # Wan divides by the length over the channels, but by no less than 1e-12.
        return RMSNorm(eps=1e-24, name=name, compute=self.compute)


class ResidualBlock(Layer):
    """Two causal convolutions, added to the input."""

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W I"], cache: Cache | None = None
    ) -> tuple[Float[Array, "B T H W O"], Cache]:
        """Norm, SiLU, convolution, twice; where the number of channels changes the input is mapped to it."""
        past1, past2 = cache or (None, None)
        y, past1 = self._conv(self.features, "conv1")(nn.silu(self._norm("norm1")(x)), past1)
        y, past2 = self._conv(self.features, "conv2")(nn.silu(self._norm("norm2")(y)), past2)
        if x.shape[-1] != self.features:
            x = self._linear(self.features, "shortcut")(x)
        return x + y, (past1, past2)


class FrameAttention(Layer):
    """The places of a frame read each other, by one head; added to the input."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W D"], cache: Cache | None = None
    ) -> tuple[Float[Array, "B T H W D"], Cache]:
        """Attend within every frame; nothing is kept, for frames do not mix."""
        width = x.shape[-1]
        places = rearrange(self._norm("norm")(x), "B T H W D -> (B T) (H W) 1 D")
        q, k, v = jnp.split(self._linear(3 * width, "qkv")(places), 3, axis=-1)
        return x + self._linear(width, "out")(attention(q, k, v, self.compute)).reshape(x.shape), ()


class Downsample(Layer):
    """Half the rows and columns; with `time` half the frames too."""

    time: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W D"], cache: Cache | None = None
    ) -> tuple[Float[Array, "B U h w D"], Cache]:
        """The video's first frame passes time untouched, and is the past of those after it."""
        width = x.shape[-1]
        x = self._frame_conv(width, "conv", padding=(0, 1), stride=2)(x)
        if not self.time:
            return x, ()
        first, rest, past = (x[:, :1], x[:, 1:], x[:, :1]) if cache is None else (x[:, :0], x, cache[0])
        rest, past = self._conv(width, "time_conv", kernel_size=(3, 1, 1), stride=2)(rest, past)
        return jnp.concatenate([first, rest], axis=1), (past,)


class Upsample(Layer):
    """Twice the rows and columns at half the channels; with `time` twice the frames too."""

    time: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W D"], cache: Cache | None = None
    ) -> tuple[Float[Array, "B U h w E"], Cache]:
        """The video's first frame passes time untouched, unseen by those after it: they start from zeros."""
        width = x.shape[-1]
        kept: Cache = ()
        if self.time:
            first, rest, past = (x[:, :1], x[:, 1:], None) if cache is None else (x[:, :0], x, cache[0])
            rest, past = self._conv(2 * width, "time_conv", kernel_size=(3, 1, 1))(rest, past)
            rest = rearrange(rest, "B T H W (two D) -> B (T two) H W D", two=2)
            x, kept = jnp.concatenate([first, rest], axis=1), (past,)
        return self._frame_conv(width // 2, "conv", doubled=True)(x), kept


class Head(Layer):
    """Norm, SiLU and a last causal convolution."""

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W I"], cache: Cache | None = None
    ) -> tuple[Float[Array, "B T H W O"], Cache]:
        """Map to `features` channels."""
        (past,) = cache or (None,)
        x, past = self._conv(self.features, "conv")(nn.silu(self._norm("norm")(x)), past)
        return x, (past,)
