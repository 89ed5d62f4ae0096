"""The timestep-aware audio adapter (paper 3.1, Eq. 1-4): audio embeddings read the latents at the present noise level.

Audio tokens are dealt to the latent frames as slots. Refining them is cheap beside the DiT, but depends on latents
and noise level, so it is done again at each evaluation.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from stableavatar_jax.frames import FRAMES_PER_LATENT
from stableavatar_jax.models.attention import attention
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import AudioAdapterConfig
from stableavatar_jax.models.layers import LayerNorm, Linear, RMSNorm, modulate, named
from stableavatar_jax.shapes import Array, Float, Int


class AudioSlots(NamedTuple):
    """Audio tokens dealt to latent frames, and how many of a frame's are audio; padding follows them."""

    tokens: Float[Array, "B F n D"]
    lengths: Int[Array, "F"]


def slot_indices(audio_tokens: int, latent_frames: int, context: int, video_frames: int | None = None) -> np.ndarray:
    """Audio token in every slot position, -1 where padded; `[latent_frames, n]` integers (paper Eq. 1).

    `video_frames` (default `4 * latent_frames - 3`) sets how densely the audio covers the video. A slot holds the
    tokens half a latent frame to each side of its centre and `context` more; what leaves the clip is dropped and the
    slot padded at its end, at both ends of the clip (docs/method.md). Raises ValueError below two latent frames,
    where the release's first slot is undefined.
    """
    if latent_frames < 2 or audio_tokens < 1:
        raise ValueError(f"{latent_frames} latent frames with {audio_tokens} audio tokens: slots need at least 2 and 1")
    index, inside = _slot_ranges(audio_tokens, latent_frames, context, video_frames)
    return np.take_along_axis(np.where(inside, index, -1), _left(inside), axis=1)


def slot_places(audio_tokens: int, latent_frames: int, context: int, video_frames: int | None = None) -> np.ndarray:
    """Place of every token of `slot_indices` in its slot, counted from where the slot begins, in the clip or not."""
    index, inside = _slot_ranges(audio_tokens, latent_frames, context, video_frames)
    return np.take_along_axis(index - index[:, :1], _left(inside), axis=1)


def _slot_ranges(
    audio_tokens: int, latent_frames: int, context: int, video_frames: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Audio tokens around every latent frame, in the clip or not, and which are in it."""
    video_frames = FRAMES_PER_LATENT * (latent_frames - 1) + 1 if video_frames is None else video_frames
    per_frame = audio_tokens / video_frames
    half = int(FRAMES_PER_LATENT * per_frame / 2)
    # The video frames of latent frame i are 4i-3 .. 4i.
    first_frame = FRAMES_PER_LATENT * (np.arange(1, latent_frames) - 1) + 1
    centres = np.trunc((per_frame * first_frame + per_frame * (first_frame + FRAMES_PER_LATENT)) / 2).astype(int) - 1
    start = np.concatenate([[centres[0] - 3 * half], centres - half])  # the first slot ends where the second starts
    index = start[:, None] - context + np.arange(2 * half + 1 + 2 * context)
    return index, (index >= 0) & (index < audio_tokens)


def _left(inside: np.ndarray) -> np.ndarray:
    """The order of a slot's tokens that puts its padding last."""
    return np.argsort(~inside, axis=1, kind="stable")


class AudioProjection(nn.Module):
    """Audio features to the DiT's width: linear maps without bias, each followed by LayerNorm (eps 1e-5)."""

    config: AudioAdapterConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, audio: Float[Array, "B A E"]) -> Float[Array, "B A D"]:
        """Project every audio token on its own."""
        c = self.config
        for i, width in enumerate((*c.projection_dims, c.dim)):
            audio = Linear(width, ("audio", "embed"), use_bias=False, compute=self.compute,
                           name=f"linear_{i}")(audio)
            audio = LayerNorm(1e-5, compute=self.compute, name=f"norm_{i}")(audio)
        return audio


class FrameAttention(nn.Module):
    """Slot tokens of a latent frame read the video tokens of the same frame (paper Eq. 3)."""

    config: AudioAdapterConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Float[Array, "B F n D"], latents: Float[Array, "B F P E"]) -> Float[Array, "B F n D"]:
        """Queries from `x`, keys and values from `latents`, frame by frame."""
        c = self.config

        def linear(name: str, axes=("embed", "heads")):
            return Linear(c.dim, axes, compute=self.compute, name=name)

        q = RMSNorm(compute=self.compute, name="norm_q")(linear("q")(x))
        k = RMSNorm(compute=self.compute, name="norm_k")(linear("k")(latents))
        v = linear("v")(latents)
        q, k, v = (rearrange(a, "B F L (N K) -> (B F) L N K", N=c.heads) for a in (q, k, v))
        out = rearrange(attention(q, k, v, self.compute), "(B F) L N K -> B F L (N K)", B=x.shape[0])
        return linear("o", ("heads", "embed"))(out)


class AdapterBlock(nn.Module):
    """Modulated self-path, attention to the frame's latents, modulated feed-forward (paper Eq. 2-3)."""

    config: AudioAdapterConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B F n D"], latents: Float[Array, "B F P E"], e0: Float[Array, "B 6 D"] | None
    ) -> Float[Array, "B F n D"]:
        """Refine the slots; without `e0` nothing is modulated."""
        c = self.config
        norm = LayerNorm(affine=False)
        if e0 is None:
            shift1, scale1, gate1, shift2, scale2, gate2 = 0.0, 0.0, 1.0, 0.0, 0.0, 1.0
        else:
            init = named(nn.initializers.normal(c.dim**-0.5), None, "embed")
            learned = self.param("modulation", init, (6, c.dim), self.compute.param_dtype).astype(jnp.float32)
            six = rearrange(learned + e0, "B six D -> six B 1 1 D")
            six = nn.with_logical_constraint(six, (None, "batch", None, None, "embed_activation"))
            shift1, scale1, gate1, shift2, scale2, gate2 = six
        x = x + (modulate(norm(x), shift1, scale1) * gate1).astype(x.dtype)
        if c.ablation != "no_cross_attention":
            attend = FrameAttention(c, self.compute, name="cross_attention")
            x = x + attend(LayerNorm(compute=self.compute, name="norm_cross")(x), latents)
        y = Linear(c.ffn_width, ("embed", "mlp"), compute=self.compute, name="ffn_up")(
            modulate(norm(x), shift2, scale2)
        )
        y = Linear(c.dim, ("mlp", "embed"), compute=self.compute, name="ffn_down")(nn.gelu(y))
        return x + (y * gate2).astype(x.dtype)


class AudioAdapter(nn.Module):
    """Audio features in, refined audio out: `slots` once per recording, `refine` once per evaluation."""

    config: AudioAdapterConfig
    compute: Compute = Compute()

    def setup(self):
        """Projection, blocks and head."""
        c = self.config
        self.projection = AudioProjection(c, self.compute)
        if c.slot_positions:
            init = named(nn.initializers.normal(1.0), None, "embed")  # as large as the normalised tokens
            self.positions = self.param("positions", init, (c.slot_positions, c.dim), self.compute.param_dtype)
        if c.ablation == "project":
            return
        self.block = [AdapterBlock(c, self.compute) for _ in range(c.blocks)]
        self.head_norm = LayerNorm(affine=False)
        self.head = Linear(c.dim, ("embed", "embed_out"), compute=self.compute)
        if c.ablation != "no_modulation":
            init = named(nn.initializers.normal(c.dim**-0.5), None, "embed")
            self.head_modulation = self.param("head_modulation", init, (2, c.dim), self.compute.param_dtype)

    def slots(
        self, audio: Float[Array, "B A E"], latent_frames: int, video_frames: int | None = None
    ) -> AudioSlots:
        """Project audio features and deal them to latent frames (paper Eq. 1, `slot_indices`)."""
        extent = audio.shape[1], latent_frames, self.config.context, video_frames
        index = slot_indices(*extent)
        mask = jnp.asarray(index >= 0)[None, :, :, None]
        tokens = self.projection(audio)[:, np.maximum(index, 0)]
        if self.config.slot_positions:
            if index.shape[1] > self.config.slot_positions:
                raise ValueError(f"slots of {index.shape[1]} tokens, slot_positions is {self.config.slot_positions}")
            tokens = tokens + self.positions.astype(tokens.dtype)[slot_places(*extent)]
        return AudioSlots(tokens * mask.astype(tokens.dtype), jnp.asarray((index >= 0).sum(1), jnp.int32))

    def refine(
        self,
        slots: Float[Array, "B F n D"],
        latents: Float[Array, "B F P E"],
        e: Float[Array, "B D"],
        e0: Float[Array, "B 6 D"],
    ) -> Float[Array, "B F n D"]:
        """Refined audio r (paper Eq. 2-4) from patch-embedded latents and the DiT's own time embeddings.

        Tokens of several recordings may lie side by side on the slot axis: no token reads another.
        """
        c = self.config
        if c.ablation == "project":
            return slots
        if c.ablation == "random_modulation":
            e, e0 = _like(e, 0), _like(e0, 1)
        modulated = c.ablation != "no_modulation"
        x = slots
        for block in self.block:
            x = block(x, latents, e0 if modulated else None)
        x = self.head_norm(x)
        if modulated:
            shift, scale = rearrange(self.head_modulation.astype(jnp.float32) + e[:, None], "B two D -> two B 1 1 D")
            x = modulate(x, shift, scale)
        return self.head(x)

    def __call__(
        self, audio: Float[Array, "B A E"], latents: Float[Array, "B L D"], e: Float[Array, "B D"],
        e0: Float[Array, "B 6 D"], latent_frames: int, video_frames: int | None = None,
    ) -> Float[Array, "B F n D"]:
        """The whole adapter on its own: `refine(slots(audio))` with the tokens of all frames in one row."""
        slots = self.slots(audio, latent_frames, video_frames)
        return self.refine(slots.tokens, rearrange(latents, "B (F P) D -> B F P D", F=latent_frames), e, e0)


def _like(x: Array, seed: int) -> Array:
    """A fixed random vector in place of each row of `x`, of the row's root mean square."""
    draw = jax.random.normal(jax.random.key(seed), x.shape[1:], x.dtype)
    return draw * jnp.sqrt(jnp.square(x).mean(axis=tuple(range(1, x.ndim)), keepdims=True))
