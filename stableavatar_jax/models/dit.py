"""The video diffusion transformer of Wan2.1 image-to-video with StableAvatar's audio: latents in, velocity out.

One row of a batch is one evaluation: latents at a noise level, under a text, a picture and an audio. What stays the
same while a video is denoised is computed once, by `context` and `slots`. An evaluation is then four steps, `embed`,
`refine`, `run_blocks` and `read_out`; a caller with several guidance branches repeats what they share between the
steps (`sampling/velocity.py`).
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from stableavatar_jax.models.attention import layouts
from stableavatar_jax.models.audio_adapter import AudioAdapter, AudioSlots
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import DiTConfig
from stableavatar_jax.models.dit_block import MLP, Block, Evaluation, ImageEmbedding
from stableavatar_jax.models.layers import LayerNorm, Linear, modulate, named, scan_layers
from stableavatar_jax.models.rope import rope_tables, sinusoid
from stableavatar_jax.shapes import Array, Bool, Float, Int

__all__ = ["Context", "DiT", "DiTConfig", "Embedded", "patchify", "unpatchify"]


class Context(NamedTuple):
    """Keys and values of C texts and their pictures in every block."""

    text: tuple[Float[Array, "layers C T D"], Float[Array, "layers C T D"]]
    image: tuple[Float[Array, "layers C I D"], Float[Array, "layers C I D"]]


class Embedded(NamedTuple):
    """Latents as tokens and noise levels as vectors: what the branches of an evaluation share."""

    x: Float[Array, "B F H W D"]
    """Tokens, on the grid of patches."""
    e: Float[Array, "B D"]
    """Noise level, for the head."""
    e0: Float[Array, "B 6 D"]
    """Noise level, for the blocks."""


class DiT(nn.Module):
    """Wan2.1 image-to-video transformer with the audio adapter nested in it."""

    config: DiTConfig
    compute: Compute = Compute()

    def setup(self):
        """Embeddings, the adapter, one block whose parameters are stacked over layers, and the head."""
        c, compute = self.config, self.compute
        self.patch_embedding = Linear(c.dim, ("patch", "embed"), compute=compute)
        self.text_embedding = MLP(c.dim, c.dim, nn.gelu, compute)
        self.image_embedding = ImageEmbedding(c, compute)
        float32 = Compute(param_dtype=compute.param_dtype)  # times are embedded in float32 whatever the dtype
        self.time_embedding = MLP(c.dim, c.dim, nn.silu, float32)
        self.time_projection = Linear(6 * c.dim, ("embed", "mlp"), compute=float32)
        # Its keys and values of all tokens are as large as the blocks', and as cheap to make again.
        adapter = AudioAdapter if compute.remat == "none" else nn.remat(AudioAdapter, methods=["refine"])
        self.audio_adapter = adapter(c.adapter, compute)
        self.blocks = Block(c, compute)
        init = named(nn.initializers.normal(c.dim**-0.5), None, "embed")
        self.head_modulation = self.param("head_modulation", init, (2, c.dim), compute.param_dtype)
        self.head_norm = LayerNorm(affine=False)
        patch = c.patch[0] * c.patch[1] * c.patch[2]
        self.head = Linear(patch * c.out_channels, ("embed", "patch"), compute=compute)

    def context(
        self, text: Float[Array, "C T E"], text_mask: Bool[Array, "C T"], image: Float[Array, "C I G"]
    ) -> Context:
        """Keys and values of texts and pictures in every block.

        Text rows outside the mask are zeroed and the text padded to `text_len`; padded rows are still read, as the
        weights were trained. `image` holds the image encoder's tokens. Raises ValueError for too long a text.
        """
        c = self.config
        if text.shape[1] > c.text_len:
            raise ValueError(f"{text.shape[1]} text tokens, the model takes at most {c.text_len}")
        text = jnp.where(text_mask[..., None], text, 0)
        text = jnp.pad(text, ((0, 0), (0, c.text_len - text.shape[1]), (0, 0)))
        text, image = self.text_embedding(text), self.image_embedding(image)
        keys_values = lambda block, _, __: (None, block.context(text, image))  # noqa: E731
        _, made = scan_layers(keys_values, self.blocks, c.layers, None, remat=self.compute.remat)
        return Context(*made)

    def slots(self, audio: Float[Array, "B A E"], latent_frames: int, video_frames: int | None = None) -> AudioSlots:
        """Audio features projected and dealt to latent frames (see `AudioAdapter.slots`)."""
        return self.audio_adapter.slots(audio, latent_frames, video_frames)

    def embed(
        self, z: Float[Array, "B F H W C"], t: Float[Array, "B"], reference: Float[Array, "R F H W Y"]
    ) -> Embedded:
        """Latents at noise levels `t / 1000`, beside the mask and the picture's latents that `reference` holds (of
        every row, or one for all), as tokens.
        """
        c = self.config
        reference = jnp.broadcast_to(reference, (len(z), *reference.shape[1:]))
        patches = patchify(jnp.concatenate([z, reference.astype(z.dtype)], -1), c.patch)
        # By frame: a TPU would store 52 columns of a grid as 56, and keep that beside the row that the blocks read.
        x = self.patch_embedding(rearrange(patches, "B F h w P -> B F (h w) P")).reshape(*patches.shape[:-1], c.dim)
        e = nn.with_logical_constraint(self.time_embedding(sinusoid(t, c.time_dim)), ("batch", "embed_activation"))
        e0 = rearrange(self.time_projection(nn.silu(e)), "B (six D) -> B six D", six=6)
        e0 = nn.with_logical_constraint(e0, ("batch", None, "embed_activation"))
        return Embedded(x, e, e0)

    def refine(self, slots: Float[Array, "B F n D"], embedded: Embedded) -> Float[Array, "B F n D"]:
        """Audio that has read the latents at their noise level (paper Eq. 2-4). Slots of several recordings may lie
        side by side on the slot axis, and are refined at the price of one reading.
        """
        latents = rearrange(embedded.x, "B F H W D -> B F (H W) D")
        return self.audio_adapter.refine(slots, latents, embedded.e, embedded.e0)

    def run_blocks(
        self,
        embedded: Embedded,
        audio: Float[Array, "B F n D"],
        context: Context,
        *,
        texts: Int[Array, "B"] | None = None,
        lengths: Int[Array, "F"],
        clip_level: bool | Bool[Array, ""] = False,
    ) -> Float[Array, "B F H W D"]:
        """Tokens through all blocks. `texts` says which text of the context a row reads (by default row i text i);
        `lengths` are those of the audio slots; `clip_level` lets every token read all slots at once.
        """
        c = self.config
        _, frames, height, width, _ = embedded.x.shape
        tokens = frames * height * width
        row = layouts.in_row(rearrange(embedded.x, "B F H W D -> B F (H W) D"))
        cos, sin = rope_tables((frames, height, width), c.dim // c.heads)
        table = lambda x: layouts.in_row(rearrange(x, "(F P) D -> F P D", F=frames))  # noqa: E731
        shared = Evaluation(
            e0=embedded.e0,
            audio=audio,
            audio_lengths=lengths if c.mask_padding else None,
            rope=(table(cos), table(sin)),
            clip_level=clip_level,
            read=None if row.shape[1] == tokens else jnp.full(len(row), tokens, jnp.int32),
        )

        def layer(block: Block, x: Array, context: Context) -> tuple[Array, None]:
            own = context if texts is None else jax.tree.map(lambda a: a[texts], context)
            return block(x, own.text, own.image, shared), None

        row, _ = scan_layers(layer, self.blocks, c.layers, row, context, remat=self.compute.remat)
        return layouts.by_frame(row, frames)[:, :, : height * width].reshape(embedded.x.shape)

    def read_out(self, x: Float[Array, "B f h w D"], e: Float[Array, "B D"]) -> Float[Array, "B F H W C"]:
        """The velocity that tokens stand for."""
        two = self.head_modulation.astype(jnp.float32)[:, None] + e
        shift, scale = nn.with_logical_constraint(two, (None, "batch", "embed_activation"))[:, :, None, None, None]
        return unpatchify(self.head(modulate(self.head_norm(x), shift, scale)), self.config.patch)

    def velocity(
        self,
        z: Float[Array, "B F H W C"],
        t: Float[Array, "B"],
        reference: Float[Array, "R F H W Y"],
        context: Context,
        slots: AudioSlots,
        *,
        clip_level: bool | Bool[Array, ""] = False,
    ) -> Float[Array, "B F H W C"]:
        """Velocity at noise level `t / 1000`, row by row (see `embed` and `run_blocks`)."""
        embedded = self.embed(z, t, reference)
        audio = self.refine(slots.tokens, embedded)
        x = self.run_blocks(embedded, audio, context, lengths=slots.lengths, clip_level=clip_level)
        return self.read_out(x, embedded.e)

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
        """One evaluation from plain features, as in training."""
        context, slots = self.context(text, text_mask, image), self.slots(audio, z.shape[1])
        return self.velocity(z, t, reference, context, slots, clip_level=clip_level)

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


def patchify(z: Float[Array, "B F H W C"], patch: tuple[int, int, int]) -> Float[Array, "B f h w P"]:
    """A grid of tokens of a patch's values each, channels outermost (the order of the released patch embedding)."""
    f, h, w = patch
    return rearrange(z, "B (F f) (H h) (W w) C -> B F H W (C f h w)", f=f, h=h, w=w)


def unpatchify(x: Float[Array, "B f h w P"], patch: tuple[int, int, int]) -> Float[Array, "B F H W C"]:
    """Tokens back to latents, channels innermost (the order of the released head)."""
    f, h, w = patch
    return rearrange(x, "B F H W (f h w C) -> B (F f) (H h) (W w) C", f=f, h=h, w=w)
