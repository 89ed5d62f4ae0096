"""The video diffusion transformer of Wan2.1 image-to-video with StableAvatar's audio: latents in, velocity out.

What stays the same while a video is denoised is made once: `context` turns text and picture into the keys and values
of every block, `slots` deals the projected audio to latent frames. `velocity` is one evaluation, of several guidance
branches at a time where asked: patches, times and refined audio are shared between them.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, repeat

from stableavatar_jax.models.audio_adapter import AudioAdapter, AudioSlots
from stableavatar_jax.models.config import DiTConfig
from stableavatar_jax.models.dit_block import MLP, SAVED, Block, Evaluation, ImageEmbedding
from stableavatar_jax.models.layers import LayerNorm, Linear, modulate, named
from stableavatar_jax.models.rope import rope_tables, sinusoid
from stableavatar_jax.shapes import Array, Bool, Float

__all__ = ["Branches", "Context", "DiT", "DiTConfig", "patchify", "unpatchify"]

Branches = tuple[tuple[int, int | None], ...]
"""For every guidance branch: which text of the context, which audio of the slots (None: refined audio is zero)."""


class Context(NamedTuple):
    """Keys and values of text and picture in every block, made once; T counts texts."""

    text: tuple[Float[Array, "layers B T L D"], Float[Array, "layers B T L D"]]
    image: tuple[Float[Array, "layers B I D"], Float[Array, "layers B I D"]]


class DiT(nn.Module):
    """Wan2.1 image-to-video transformer with the audio adapter nested in it."""

    config: DiTConfig

    def setup(self):
        """Embeddings, the adapter, one block whose parameters are stacked over layers, and the head."""
        c = self.config
        kwargs = {"dtype": c.dtype, "param_dtype": c.param_dtype}
        self.patch_embedding = Linear(c.dim, ("patch", "embed"), **kwargs)
        self.text_embedding = MLP(c.dim, c.dim, nn.gelu, **kwargs)
        self.image_embedding = ImageEmbedding(c)
        float32 = {**kwargs, "dtype": "float32"}  # times are embedded in float32 whatever the compute dtype
        self.time_embedding = MLP(c.dim, c.dim, nn.silu, **float32)
        self.time_projection = Linear(6 * c.dim, ("embed", "mlp"), **float32)
        self.audio_adapter = AudioAdapter(c.adapter)
        self.blocks = Block(c)
        init = named(nn.initializers.normal(c.dim**-0.5), None, "embed")
        self.head_modulation = self.param("head_modulation", init, (2, c.dim), c.param_dtype)
        self.head_norm = LayerNorm(affine=False)
        patch = c.patch[0] * c.patch[1] * c.patch[2]
        self.head = Linear(patch * c.out_channels, ("embed", "patch"), **kwargs)

    def context(
        self, text: Float[Array, "B T L E"], text_mask: Bool[Array, "B T L"], image: Float[Array, "B I G"]
    ) -> Context:
        """Keys and values of text and picture in every block.

        Text rows outside the mask are zeroed and the text padded to `text_len`; padded rows are still read, as the
        weights were trained. `image` holds the image encoder's tokens.
        """
        c = self.config
        if text.shape[2] > c.text_len:
            raise ValueError(f"{text.shape[2]} text tokens, the model takes at most {c.text_len}")
        text = jnp.where(text_mask[..., None], text, 0)
        text = jnp.pad(text, ((0, 0), (0, 0), (0, c.text_len - text.shape[2]), (0, 0)))
        text, image = self.text_embedding(text), self.image_embedding(image)
        _, (text_kv, image_kv) = self._over_layers(lambda block, _, __: (None, block.context(text, image)))(
            self.blocks, None, None
        )
        return Context(text_kv, image_kv)

    def slots(self, audio: Float[Array, "B A E"], latent_frames: int, video_frames: int | None = None) -> AudioSlots:
        """Audio features projected and dealt to latent frames (see `AudioAdapter.slots`)."""
        return self.audio_adapter.slots(audio, latent_frames, video_frames)

    def velocity(
        self,
        z: Float[Array, "B F H W C"],
        t: Float[Array, "B"],
        reference: Float[Array, "R F H W Y"],
        context: Context,
        slots: AudioSlots,
        *,
        branches: Branches = ((0, 0),),
        clip_level: bool | Bool[Array, ""] = False,
    ) -> Float[Array, "B K F H W C"]:
        """Velocity at noise level `t / 1000` for each of K branches.

        `reference` holds the mask and the picture's latents. Axis 0 of `context` and of `reference` may be 1: shared
        by all rows. `slots.tokens` is `[B, M, F, n, D]` for M distinct recordings; the adapter runs once on each that
        a branch names. `clip_level` lets every token read all slots at once.
        """
        c = self.config
        frames, height, width = (n // p for n, p in zip(z.shape[1:4], c.patch, strict=True))
        grid = frames, height, width
        batch, count = z.shape[0], len(branches)
        reference = jnp.broadcast_to(reference, (batch, *reference.shape[1:]))
        x = self.patch_embedding(patchify(jnp.concatenate([z, reference.astype(z.dtype)], -1), c.patch))
        e = self.time_embedding(sinusoid(t, c.time_dim))
        e0 = rearrange(self.time_projection(nn.silu(e)), "B (six D) -> B six D", six=6)
        audio = self._refine(slots.tokens, x, e, e0, branches, frames)

        texts = jnp.asarray([text for text, _ in branches])
        shared = Evaluation(
            e0=repeat(e0, "B six D -> (B K) six D", K=count),
            audio=audio,
            audio_mask=slots.mask if c.mask_padding else None,
            rope=rope_tables(grid, c.dim // c.heads),
            clip_level=clip_level,
        )

        def layer(block, x, context):
            text = tuple(_rows(a[:, texts], batch) for a in context.text)
            image = tuple(_rows(jnp.repeat(a[:, None], count, 1), batch) for a in context.image)
            return block(x, text, image, shared), None

        x, _ = self._over_layers(layer)(self.blocks, repeat(x, "B L D -> (B K) L D", K=count), context)
        e = repeat(e, "B D -> (B K) 1 D", K=count)
        shift, scale = (self.head_modulation[i].astype(jnp.float32) + e for i in range(2))
        x = self.head(modulate(self.head_norm(x), shift, scale))
        return rearrange(unpatchify(x, grid, c.patch), "(B K) F H W C -> B K F H W C", K=count)

    def __call__(
        self,
        z: Float[Array, "B F H W C"],
        t: Float[Array, "B"],
        reference: Float[Array, "B F H W Y"],
        text: Float[Array, "B L E"],
        text_mask: Bool[Array, "B L"],
        image: Float[Array, "B I G"],
        audio: Float[Array, "B A V"],
        *,
        clip_level: bool | Bool[Array, ""] = False,
    ) -> Float[Array, "B F H W C"]:
        """One evaluation from plain features, as in training: context, slots and the velocity of one branch."""
        context = self.context(text[:, None], text_mask[:, None], image)
        slots = self.slots(audio, z.shape[1])
        slots = slots._replace(tokens=slots.tokens[:, None])
        return self.velocity(z, t, reference, context, slots, clip_level=clip_level)[:, 0]

    def example(self) -> tuple[Array, ...]:
        """The smallest inputs that touch every parameter."""
        c = self.config
        frames, height, width = 2 * c.patch[0], c.patch[1], c.patch[2]
        return (
            jnp.zeros((1, frames, height, width, c.out_channels)),
            jnp.zeros((1,)),
            jnp.zeros((1, frames, height, width, c.in_channels - c.out_channels)),
            jnp.zeros((1, 1, c.text_dim)),
            jnp.ones((1, 1), bool),
            jnp.zeros((1, 1, c.image_dim)),
            jnp.zeros((1, 8, c.adapter.audio_dim)),
        )

    def _refine(self, slots, x, e, e0, branches: Branches, frames: int) -> Array:
        """Refined audio of every branch `[(B K) F n D]`; the adapter sees each named recording once."""
        used = sorted({audio for _, audio in branches if audio is not None})
        latents = rearrange(x, "B (F P) D -> B F P D", F=frames)
        zero = jnp.zeros_like(slots[:, 0])
        refined: dict[int | None, Array] = {None: zero}
        if used:
            side_by_side = rearrange(slots[:, jnp.asarray(used)], "B M F n D -> B F (M n) D")
            out = self.audio_adapter.refine(side_by_side, latents, e, e0)
            refined |= dict(zip(used, rearrange(out, "B F (M n) D -> M B F n D", M=len(used)), strict=True))
        return rearrange(jnp.stack([refined[audio] for _, audio in branches], 1), "B K F n D -> (B K) F n D")

    def _over_layers(self, body: Callable) -> Callable:
        """`body(block, carry, xs)` over all blocks in one loop, whose parameters are stacked along "layers"."""
        c = self.config
        if c.remat != "none":
            body = nn.remat(body, prevent_cse=False, policy=_keep(c.remat))
        return nn.scan(
            body,
            variable_axes={"params": 0, "lora": 0},
            split_rngs={"params": True},
            length=c.layers,
            unroll=c.unroll,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )


def _keep(remat: str) -> Callable | None:
    """What the backward pass keeps of a block, as a policy of jax.checkpoint."""
    policies = jax.checkpoint_policies
    if remat == "names":
        return policies.save_only_these_names(*SAVED)
    if remat == "offload":
        return policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[], names_which_can_be_offloaded=list(SAVED),
            offload_src="device", offload_dst="pinned_host",
        )
    return None


def patchify(z: Float[Array, "B F H W C"], patch: tuple[int, int, int]) -> Float[Array, "B L P"]:
    """Tokens of a patch's values each, channels outermost (the order of the released patch embedding)."""
    f, h, w = patch
    return rearrange(z, "B (F f) (H h) (W w) C -> B (F H W) (C f h w)", f=f, h=h, w=w)


def unpatchify(
    x: Float[Array, "B L P"], grid: tuple[int, int, int], patch: tuple[int, int, int]
) -> Float[Array, "B F H W C"]:
    """Tokens back to latents, channels innermost (the order of the released head)."""
    (F, H, W), (f, h, w) = grid, patch
    return rearrange(x, "B (F H W) (f h w C) -> B (F f) (H h) (W w) C", F=F, H=H, W=W, f=f, h=h, w=w)


def _rows(x: Float[Array, "b K ..."], batch: int) -> Float[Array, "BK ..."]:
    """Branches of each row as rows of their own; a single shared row serves the whole batch."""
    x = jnp.broadcast_to(x, (batch, *x.shape[1:]))
    return x.reshape(-1, *x.shape[2:])
