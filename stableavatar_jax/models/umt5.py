"""The text encoder of UMT5: a T5 encoder whose every layer has a relative position bias of its own."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from stableavatar_jax.models.attention import attention
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import UMT5Config
from stableavatar_jax.models.layers import Axes, Linear, RMSNorm, named, stack
from stableavatar_jax.shapes import Array, Bool, Float, Int

UNREAD = -1e30  # a score that leaves a key no weight, unless every key of the row has it


class UMT5(nn.Module):
    """Token ids to text features."""

    config: UMT5Config
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, ids: Int[Array, "B L"], mask: Bool[Array, "B L"]) -> Float[Array, "B L D"]:
        """Encode prompts; `mask` is True on tokens and False on padding, which no token reads.

        The rows of padding in the result have no meaning, as in the reference; the caller drops them.
        """
        config = self.config
        init = named(nn.initializers.normal(1.0), "vocab", "embed")
        table = self.param("token_embedding", init, (config.vocab, config.dim), self.compute.param_dtype)
        x = jnp.take(table, ids, axis=0).astype(self.compute.dtype)
        shared = (PositionBias(config, self.compute, name="position_bias")(ids.shape[1]),) if config.shared_bias else ()
        x = stack(EncoderLayer(config, self.compute, name="layers"), config.layers, x, mask, *shared)
        return norm(self.compute, "norm")(x)

    def example(self) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """Shapes of the inputs, for `init`."""
        return jax.ShapeDtypeStruct((1, 2), jnp.int32), jax.ShapeDtypeStruct((1, 2), jnp.bool_)


class EncoderLayer(nn.Module):
    """Self-attention and a gated feed-forward, each on a normed input and added to it."""

    config: UMT5Config
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], bias: Float[Array, "1 N L L"] | None = None
    ) -> Float[Array, "B L D"]:
        """One layer; without a shared `bias` it makes its own."""
        config = self.config
        if bias is None:
            bias = PositionBias(config, self.compute, name="position_bias")(x.shape[1])
        x = x + SelfAttention(config, self.compute, name="attention")(norm(self.compute, "norm1")(x), mask, bias)
        return x + FeedForward(config, self.compute, name="ffn")(norm(self.compute, "norm2")(x))


class SelfAttention(nn.Module):
    """Every token reads every token that is no padding, by content and distance; scores are not scaled (T5)."""

    config: UMT5Config
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], bias: Float[Array, "1 N L L"]
    ) -> Float[Array, "B L D"]:
        """Attend over the tokens of each row."""
        config = self.config
        project = lambda name: linear(self.compute, config.attention_dim, ("embed", "heads"), name)(x)  # noqa: E731
        q, k, v = (rearrange(project(name), "B L (N K) -> B L N K", N=config.heads) for name in "qkv")
        # The bias of padding is overwritten, not the score: in a row of nothing but padding all keys weigh the same.
        bias = jnp.where(mask[:, None, None, :], bias, UNREAD)
        out = rearrange(attention(q, k, v, self.compute, bias=bias, scale=1.0), "B L N K -> B L (N K)")
        return linear(self.compute, config.dim, ("heads", "embed"), "out")(out)


class FeedForward(nn.Module):
    """`down(up(x) * gelu(gate(x)))`, GELU by its tanh formula."""

    config: UMT5Config
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """Map each token on its own."""
        config = self.config
        gate = nn.gelu(linear(self.compute, config.ffn_dim, ("embed", "mlp"), "gate")(x), approximate=True)
        up = linear(self.compute, config.ffn_dim, ("embed", "mlp"), "up")(x)
        return linear(self.compute, config.dim, ("mlp", "embed"), "down")(up * gate)


class PositionBias(nn.Module):
    """What each head adds to the score of a key that lies some distance from the query."""

    config: UMT5Config
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, length: int) -> Float[Array, "1 N L L"]:
        """The bias between all pairs of `length` tokens, queries before keys, in float32."""
        config = self.config
        shape = (config.buckets, config.heads)
        table = self.param("table", named(nn.initializers.normal(0.02), None, "heads"), shape, self.compute.param_dtype)
        place = np.arange(length)
        bucket = distance_bucket(place[None, :] - place[:, None], config.buckets, config.max_distance)
        return rearrange(table[bucket].astype(jnp.float32), "L M N -> 1 N L M")


def linear(compute: Compute, features: int, axes: Axes, name: str) -> Linear:
    """A linear layer; T5 has no biases."""
    return Linear(features, axes, use_bias=False, compute=compute, name=name)


def norm(compute: Compute, name: str) -> RMSNorm:
    """A norm with a scale and nothing else."""
    return RMSNorm(compute=compute, name=name)


def distance_bucket(offset: np.ndarray, buckets: int = 32, max_distance: int = 128) -> np.ndarray:
    """The class of each offset (key place minus query place), as in T5's bidirectional encoder.

    The upper half of the classes is for keys after the query. In each half, one half of the classes is for single
    distances from 0 on; the other half grows logarithmically up to `max_distance`, and its last one goes on from there.
    """
    side = buckets // 2
    near = side // 2
    distance = np.abs(offset)
    # float32, truncated: the borders of the classes depend on how these few operations round.
    far = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(near))
    far = near + (far / np.float32(math.log(max_distance / near)) * np.float32(side - near)).astype(np.int32)
    bucket = np.where(distance < near, distance, np.minimum(far, side - 1))
    return (bucket + side * (offset > 0)).astype(np.int32)
