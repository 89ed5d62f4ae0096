"""One block of the transformer, and what it is made of (docs/method.md)."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax.ad_checkpoint import checkpoint_name

from stableavatar_jax.models.attention import attention
from stableavatar_jax.models.config import DiTConfig
from stableavatar_jax.models.layers import LayerNorm, Linear, RMSNorm, modulate, named
from stableavatar_jax.models.rope import rotate
from stableavatar_jax.shapes import Array, Bool, Float

KeysValues = tuple[Array, Array]

SAVED = ("self_attention", "cross_attention", "ffn_up")
"""Names of what remat `names` and `offload` keep: what attention read, before its output projection, and the
feed-forward before its activation: the dearest results of a block."""



class Evaluation(NamedTuple):
    """What every block of one evaluation reads."""

    e0: Float[Array, "B 6 D"]
    audio: Float[Array, "B F n D"]
    audio_mask: Bool[Array, "F n"] | None
    rope: tuple[Float[Array, "L P"], Float[Array, "L P"]]
    clip_level: bool | Bool[Array, ""]


class MLP(nn.Module):
    """Two linear maps with an activation between them."""

    hidden: int
    features: int
    activation: Callable[[Array], Array]
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        """Up, activate, down."""
        x = Linear(self.hidden, ("embed", "mlp"), dtype=self.dtype, param_dtype=self.param_dtype, name="up")(x)
        x = checkpoint_name(x, "ffn_up")
        return Linear(self.features, ("mlp", "embed"), dtype=self.dtype, param_dtype=self.param_dtype, name="down")(
            self.activation(x)
        )


class ImageEmbedding(nn.Module):
    """CLIP tokens to the DiT's width: LayerNorm (eps 1e-5), MLP with exact GELU, LayerNorm."""

    config: DiTConfig

    @nn.compact
    def __call__(self, image: Float[Array, "B I E"]) -> Float[Array, "B I D"]:
        """Embed every token on its own."""
        c = self.config
        x = LayerNorm(1e-5, param_dtype=c.param_dtype, name="norm_in")(image)
        gelu = lambda x: nn.gelu(x, approximate=False)  # noqa: E731
        x = MLP(c.image_dim, c.dim, gelu, c.dtype, c.param_dtype, name="mlp")(x)
        return LayerNorm(1e-5, param_dtype=c.param_dtype, name="norm_out")(x)


class SelfAttention(nn.Module):
    """Every token reads every token; q and k are RMS-normed over the full width, then turned by position."""

    config: DiTConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"], rope: tuple[Array, Array]) -> Float[Array, "B L D"]:
        """Attention over all tokens of a window."""
        c = self.config

        def linear(name: str, axes=("embed", "heads")):
            return Linear(c.dim, axes, dtype=c.dtype, param_dtype=c.param_dtype, name=name)

        q = RMSNorm(param_dtype=c.param_dtype, name="norm_q")(linear("q")(x))
        k = RMSNorm(param_dtype=c.param_dtype, name="norm_k")(linear("k")(x))
        q, k, v = (_split_heads(a, c.heads) for a in (q, k, linear("v")(x)))
        out = attention(rotate(q, *rope), rotate(k, *rope), v)
        return linear("o", ("heads", "embed"))(checkpoint_name(_join_heads(out), "self_attention"))


class CrossAttention(nn.Module):
    """One query against text, picture and audio; the three results are summed before the output projection."""

    config: DiTConfig

    def setup(self):
        """Projections named by what they read."""
        c = self.config

        def linear(axes=("embed", "heads"), **kwargs):
            return Linear(c.dim, axes, dtype=c.dtype, param_dtype=c.param_dtype, **kwargs)

        def norm():
            return RMSNorm(param_dtype=c.param_dtype)

        self.q, self.norm_q = linear(), norm()
        self.k, self.norm_k, self.v = linear(), norm(), linear()
        self.k_image, self.norm_k_image, self.v_image = linear(), norm(), linear()
        # Zero at birth: a plain Wan2.1 backbone is not disturbed by the audio it has not learned yet.
        self.k_audio = linear(kernel_init=nn.initializers.zeros)
        self.v_audio = linear(kernel_init=nn.initializers.zeros)
        self.o = linear(("heads", "embed"))

    def context(self, text: Float[Array, "B T L D"], image: Float[Array, "B I D"]) -> tuple[KeysValues, KeysValues]:
        """Keys and values of text and picture."""
        return (self.norm_k(self.k(text)), self.v(text)), (
            self.norm_k_image(self.k_image(image)),
            self.v_image(image),
        )

    def __call__(
        self, x: Float[Array, "B L D"], text: KeysValues, image: KeysValues, shared: Evaluation
    ) -> Float[Array, "B L D"]:
        """Read text and picture in full, and of the audio the slot of the token's own frame (paper Eq. 5)."""
        heads = self.config.heads
        q = _split_heads(self.norm_q(self.q(x)), heads)
        out = sum(attention(q, *(_split_heads(a, heads) for a in pair)) for pair in (text, image))
        k, v = (rearrange(p(shared.audio), "B F n (N K) -> B F n N K", N=heads) for p in (self.k_audio, self.v_audio))
        out = out + _audio_attention(q, k, v, shared.audio_mask, shared.clip_level)
        return self.o(checkpoint_name(_join_heads(out), "cross_attention"))


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward; the noise level modulates the first and the last."""

    config: DiTConfig

    def setup(self):
        """Layers, and the learned part of the modulation."""
        c = self.config
        init = named(nn.initializers.normal(c.dim**-0.5), None, "embed")
        self.modulation = self.param("modulation", init, (6, c.dim), c.param_dtype)
        self.norm = LayerNorm(affine=False)
        self.norm_cross = LayerNorm(param_dtype=c.param_dtype)
        self.self_attention = SelfAttention(c)
        self.cross_attention = CrossAttention(c)
        self.ffn = MLP(c.ffn_dim, c.dim, nn.gelu, c.dtype, c.param_dtype)

    def context(self, text: Float[Array, "B T L D"], image: Float[Array, "B I D"]) -> tuple[KeysValues, KeysValues]:
        """Keys and values of text and picture in this block."""
        return self.cross_attention.context(text, image)

    def __call__(
        self, x: Float[Array, "B L D"], text: KeysValues, image: KeysValues, shared: Evaluation
    ) -> Float[Array, "B L D"]:
        """One block of the transformer."""
        six = rearrange(self.modulation.astype(jnp.float32) + shared.e0, "B six D -> six B 1 D")
        shift1, scale1, gate1, shift2, scale2, gate2 = six
        x = nn.with_logical_constraint(x, ("batch", "tokens", "embed_activation"))
        x = x + (self.self_attention(modulate(self.norm(x), shift1, scale1), shared.rope) * gate1).astype(x.dtype)
        x = x + self.cross_attention(self.norm_cross(x), text, image, shared)
        return x + (self.ffn(modulate(self.norm(x), shift2, scale2)) * gate2).astype(x.dtype)


def _audio_attention(q, k, v, mask, clip_level):
    """q `[B L N K]` against slots `[B F n N K]`: frame by frame, or all slots at once."""
    frames = k.shape[1]

    def by_frame():
        fold = lambda a: rearrange(a, "B F n N K -> (B F) n N K")  # noqa: E731
        rows = None if mask is None else jnp.tile(mask, (q.shape[0], 1))
        out = attention(rearrange(q, "B (F P) N K -> (B F) P N K", F=frames), fold(k), fold(v), mask=rows)
        return rearrange(out, "(B F) P N K -> B (F P) N K", F=frames)

    def at_once():
        join = lambda a: rearrange(a, "B F n N K -> B (F n) N K")  # noqa: E731
        rows = None if mask is None else jnp.broadcast_to(mask.reshape(1, -1), (q.shape[0], mask.size))
        return attention(q, join(k), join(v), mask=rows)

    if isinstance(clip_level, bool):
        return at_once() if clip_level else by_frame()
    return jax.lax.cond(clip_level, at_once, by_frame)


def _split_heads(x: Float[Array, "B L D"], heads: int) -> Float[Array, "B L N K"]:
    return rearrange(x, "B L (N K) -> B L N K", N=heads)


def _join_heads(x: Float[Array, "B L N K"]) -> Float[Array, "B L D"]:
    return rearrange(x, "B L N K -> B L (N K)")
