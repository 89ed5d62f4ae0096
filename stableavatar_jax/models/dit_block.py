"""One block of the transformer, and what it is made of (docs/method.md)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax.ad_checkpoint import checkpoint_name
from jax.lax import optimization_barrier

from stableavatar_jax.models.attention import attention, layouts
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import DiTConfig
from stableavatar_jax.models.layers import Axes, LayerNorm, Linear, RMSNorm, modulate, named
from stableavatar_jax.models.remat import CROSS_ATTENTION, FFN_UP, SELF_ATTENTION
from stableavatar_jax.models.rope import pairs_apart, rotate, swapped
from stableavatar_jax.shapes import Array, Bool, Float, Int

KeysValues = tuple[Array, Array]


class Evaluation(NamedTuple):
    """What every block of one evaluation reads."""

    e0: Float[Array, "B 6 D"]
    audio: Float[Array, "B F n D"]
    audio_lengths: Int[Array, "F"] | None
    rope: tuple[Float[Array, "L P"], Float[Array, "L P"]]
    clip_level: bool | Bool[Array, ""]
    read: Int[Array, "B"] | None = None
    """Tokens that are read, where the others only make the pieces of a mesh equal."""


class MLP(nn.Module):
    """Two linear maps with an activation between them."""

    hidden: int
    features: int
    activation: Callable[[Array], Array]
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        """Up, activate, down."""
        x = checkpoint_name(Linear(self.hidden, ("embed", "mlp"), compute=self.compute, name="up")(x), FFN_UP)
        return Linear(self.features, ("mlp", "embed"), compute=self.compute, name="down")(self.activation(x))


class ImageEmbedding(nn.Module):
    """CLIP tokens to the DiT's width: LayerNorm (eps 1e-5), MLP with exact GELU, LayerNorm."""

    config: DiTConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, image: Float[Array, "B I E"]) -> Float[Array, "B I D"]:
        """Embed every token on its own."""
        c = self.config
        x = LayerNorm(1e-5, compute=self.compute, name="norm_in")(image)
        gelu = lambda x: nn.gelu(x, approximate=False)  # noqa: E731
        x = MLP(c.image_dim, c.dim, gelu, self.compute, name="mlp")(x)
        return LayerNorm(1e-5, compute=self.compute, name="norm_out")(x)


class TurnedHeads(nn.Module):
    """RMSNorm over the full width, then heads apart, each turned by position: in float32, returned in x's dtype.

    The channels of x come `pairs_apart`. Both are one pass over memory after the one that sums the squares.
    """

    heads: int
    eps: float = 1e-6
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"], rope: tuple[Array, Array]) -> Float[Array, "B L N K"]:
        """Norm and turn."""
        init = named(nn.initializers.ones, "norm")
        scale = self.param("scale", init, (x.shape[-1],), self.compute.param_dtype)
        scale = rearrange(pairs_apart(scale.astype(jnp.float32), self.heads), "(N K) -> N K", N=self.heads)
        # Without a barrier XLA norms first, and writes all of it to memory in float32.
        size = optimization_barrier(jax.lax.rsqrt(jnp.square(x.astype(jnp.float32)).mean(-1) + self.eps))
        normed = lambda x, scale: x.astype(jnp.float32) * size[..., None, None] * scale  # noqa: E731
        y = _split_heads(x, self.heads)
        return rotate(normed(y, scale), normed(swapped(y), swapped(scale)), *rope).astype(x.dtype)


class SelfAttention(nn.Module):
    """Every token reads every token; q and k are RMS-normed over the full width, then turned by position."""

    config: DiTConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L D"], rope: tuple[Array, Array], read: Int[Array, "B"] | None = None
    ) -> Float[Array, "B L D"]:
        """Attention over all tokens of a window, or the first ones alone."""
        c = self.config

        def linear(name: str, axes: Axes = ("embed", "heads"), **options: Any) -> Linear:
            return Linear(c.dim, axes, compute=self.compute, name=name, **options)

        def turned(name: str) -> Array:
            y = linear(name, order=lambda weights: pairs_apart(weights, c.heads))(x)
            return TurnedHeads(c.heads, compute=self.compute, name=f"norm_{name}")(y, rope)

        v = _split_heads(linear("v")(x), c.heads)
        out = attention(
            turned("q"), turned("k"), v, self.compute, lengths=read, keep=SELF_ATTENTION, cut="both"
        )
        return linear("o", ("heads", "embed"))(_join_heads(out))


class CrossAttention(nn.Module):
    """One query against text, picture and audio; the three results are summed before the output projection."""

    config: DiTConfig
    compute: Compute = Compute()

    def setup(self):
        """Projections named by what they read."""
        c = self.config

        def linear(axes: Axes = ("embed", "heads"), **options: Any) -> Linear:
            return Linear(c.dim, axes, compute=self.compute, **options)

        def norm() -> RMSNorm:
            return RMSNorm(compute=self.compute)

        self.q, self.norm_q = linear(), norm()
        self.k, self.norm_k, self.v = linear(), norm(), linear()
        self.k_image, self.norm_k_image, self.v_image = linear(), norm(), linear()
        # Zero at birth: a plain Wan2.1 backbone is not disturbed by the audio it has not learned yet.
        self.k_audio = linear(kernel_init=nn.initializers.zeros)
        self.v_audio = linear(kernel_init=nn.initializers.zeros)
        self.o = linear(("heads", "embed"))

    def context(self, text: Float[Array, "C T D"], image: Float[Array, "C I D"]) -> tuple[KeysValues, KeysValues]:
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
        whole = [(_split_heads(k, heads), _split_heads(v, heads)) for k, v in (text, image)]
        read = [_join_heads(attention(q, k, v, self.compute, cut="queries")) for k, v in whole]
        k, v = (rearrange(p(shared.audio), "B F n (N K) -> B F n N K", N=heads) for p in (self.k_audio, self.v_audio))
        audio = _audio_attention(q, k, v, shared.audio_lengths, shared.clip_level, self.compute)
        # Joined before they are added: a TPU would store 12 heads apart as 16.
        return self.o(checkpoint_name(read[0] + read[1] + _join_heads(audio), CROSS_ATTENTION))


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward; the noise level modulates the first and the last."""

    config: DiTConfig
    compute: Compute = Compute()

    def setup(self):
        """Layers, and the learned part of the modulation."""
        c, compute = self.config, self.compute
        init = named(nn.initializers.normal(c.dim**-0.5), None, "embed")
        self.modulation = self.param("modulation", init, (6, c.dim), compute.param_dtype)
        self.norm = LayerNorm(affine=False)
        self.norm_cross = LayerNorm(compute=compute)
        self.self_attention = SelfAttention(c, compute)
        self.cross_attention = CrossAttention(c, compute)
        self.ffn = MLP(c.ffn_dim, c.dim, nn.gelu, compute)

    def context(self, text: Float[Array, "C T D"], image: Float[Array, "C I D"]) -> tuple[KeysValues, KeysValues]:
        """Keys and values of text and picture in this block."""
        return self.cross_attention.context(text, image)

    def __call__(
        self, x: Float[Array, "B L D"], text: KeysValues, image: KeysValues, shared: Evaluation
    ) -> Float[Array, "B L D"]:
        """One block of the transformer."""
        six = rearrange(self.modulation.astype(jnp.float32) + shared.e0, "B six D -> six B 1 D")
        six = nn.with_logical_constraint(six, (None, "batch", None, "embed_activation"))
        shift1, scale1, gate1, shift2, scale2, gate2 = six
        x = nn.with_logical_constraint(x, ("batch", "tokens", "embed_activation"))
        attended = self.self_attention(modulate(self.norm(x), shift1, scale1), shared.rope, shared.read)
        x = x + (attended * gate1).astype(x.dtype)
        x = optimization_barrier(x)  # written once: the norm and the sum below would each make it again
        x = x + self.cross_attention(self.norm_cross(x), text, image, shared)
        return x + (self.ffn(modulate(self.norm(x), shift2, scale2)) * gate2).astype(x.dtype)


def _audio_attention(
    q: Float[Array, "B L N K"], k: Float[Array, "B F n N K"], v: Float[Array, "B F n N K"],
    lengths: Int[Array, "F"] | None, clip_level: bool | Bool[Array, ""], compute: Compute,
) -> Float[Array, "B L N K"]:  # fmt: skip
    """Queries against slots: frame by frame, or all slots at once."""
    rows, frames, slot = k.shape[:3]

    def by_frame() -> Array:
        fold = lambda a: rearrange(a, "B F n N K -> (B F) n N K")  # noqa: E731
        read = None if lengths is None else jnp.tile(lengths, rows)
        own = rearrange(layouts.by_frame(q, frames), "B F P N K -> (B F) P N K")
        out = attention(own, fold(k), fold(v), compute, lengths=read, cut="queries")
        return layouts.from_frames(rearrange(out, "(B F) P N K -> B F P N K", F=frames))

    def at_once() -> Array:
        join = lambda a: rearrange(a, "B F n N K -> B (F n) N K")  # noqa: E731
        if lengths is None:
            return attention(q, join(k), join(v), compute, cut="queries")
        # What is read comes first, so that a length says it: the order of keys makes no difference.
        order = jnp.argsort((jnp.arange(slot) >= lengths[:, None]).reshape(-1), stable=True)
        read = jnp.broadcast_to(lengths.sum(), rows)
        return attention(q, join(k)[:, order], join(v)[:, order], compute, lengths=read, cut="queries")

    if isinstance(clip_level, bool):
        return at_once() if clip_level else by_frame()
    return jax.lax.cond(clip_level, at_once, by_frame)


def _split_heads(x: Float[Array, "B L D"], heads: int) -> Float[Array, "B L N K"]:
    return rearrange(x, "B L (N K) -> B L N K", N=heads)


def _join_heads(x: Float[Array, "B L N K"]) -> Float[Array, "B L D"]:
    return rearrange(x, "B L N K -> B L (N K)")
