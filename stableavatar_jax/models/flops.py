"""Floating-point operations of the DiT and of the decoder: two for every multiply-add of a matrix product."""

import dataclasses

from stableavatar_jax.frames import IMAGE_TOKENS
from stableavatar_jax.models.compute import Remat
from stableavatar_jax.models.config import DiTConfig, VAEConfig


def dit_flops(
    config: DiTConfig, latent_shape: tuple[int, int, int], *, branches: int = 1, audios: int = 1, slot: int = 15
) -> float:
    """Operations of one evaluation of one window of `latent_shape` (frames, rows, columns).

    Per branch and block, with L tokens of width D: 8LD² for self-attention's and 4LD² for cross-attention's
    projections, 4L²D for tokens reading tokens, 4LD for each key read of text, picture and a slot, 4LD·ffn for the
    feed-forward; 4D² for each slot token's key and value. The adapter runs once for each of `audios` recordings.
    Left out, as made once a video: text and picture keys. Norms and activations are not counted.
    """
    c, (frames, height, width) = config, latent_shape
    tokens = frames * height * width // (c.patch[0] * c.patch[1] * c.patch[2])
    audio_tokens = frames * slot
    keys = tokens + c.text_len + IMAGE_TOKENS + slot
    block = 12 * tokens * c.dim**2 + 4 * tokens * keys * c.dim + 4 * tokens * c.dim * c.ffn_dim
    block += 4 * audio_tokens * c.dim**2
    patch = c.patch[0] * c.patch[1] * c.patch[2]
    ends = 2 * tokens * c.dim * patch * (c.in_channels + c.out_channels)
    refine = c.adapter.blocks * (4 * tokens * c.dim**2 + audio_tokens * 4 * c.dim * (c.dim + c.adapter.ffn_width))
    refine += 2 * audio_tokens * c.dim**2
    return float(branches * (c.layers * block + ends) + audios * refine)


def attention_flops(config: DiTConfig, latent_shape: tuple[int, int, int], *, branches: int = 1) -> float:
    """Those of `dit_flops` that tokens reading tokens take, text and picture: what an attention kernel computes."""
    frames, height, width = latent_shape
    tokens = frames * height * width // (config.patch[0] * config.patch[1] * config.patch[2])
    return float(4 * branches * config.layers * tokens * (tokens + config.text_len + IMAGE_TOKENS) * config.dim)


def train_flops(
    config: DiTConfig, latent_shape: tuple[int, int, int], *, remat: Remat = "none", slot: int = 15
) -> tuple[float, float]:
    """Operations of a training step on one row: what learning needs, and what is done with `remat`.

    Learning needs the forward pass, keys and values of text and picture included, and twice as much for the backward
    pass (frozen weights save some of it, which is not counted). Remat adds the blocks' forward pass once more, without
    the feed-forward's second product, whose result nothing reads, and without what is kept by name.
    """
    c, (frames, height, width) = config, latent_shape
    tokens = frames * height * width // (c.patch[0] * c.patch[1] * c.patch[2])
    context = 4 * (c.text_len + IMAGE_TOKENS) * c.dim**2
    embeddings = 2 * c.text_len * c.dim * (c.text_dim + c.dim)
    embeddings += 2 * IMAGE_TOKENS * c.image_dim * (c.image_dim + c.dim)
    blocks = c.layers * (dit_flops(_only_block(c), latent_shape, audios=0, slot=slot) + context)
    forward = dit_flops(c, latent_shape, slot=slot) + c.layers * context + embeddings
    product = 2 * tokens * c.dim * c.ffn_dim * c.layers  # one of the feed-forward's two
    scores = 4 * tokens**2 * c.dim * c.layers  # tokens reading tokens
    again = {"none": 0, "full": blocks - product, "attention": blocks - product - scores}
    return 3 * forward, 3 * forward + again.get(remat, blocks - 2 * product - scores)


def _only_block(config: DiTConfig) -> DiTConfig:
    return dataclasses.replace(config, layers=1, in_channels=0, out_channels=0)


def decoder_flops(config: VAEConfig, height: int, width: int) -> float:
    """Operations of decoding one latent frame, not the first, to frames of height x width: its convolutions.

    A residual block of width D has two convolutions of 3x3x3, 108D² a place.
    """
    widths = [config.dim * mult for mult in reversed(config.dim_mult)]
    places, total = height * width / config.space_factor**2, 0.0
    total += places * (2 * 108 + 2 * 4) * widths[0] ** 2 + 54 * places * config.z_dim * widths[0]
    before = widths[0]
    for stage, wide in enumerate(widths):
        total += places * 54 * (before * wide + (2 * config.num_res_blocks + 1) * wide**2)
        before = wide
        if stage < len(widths) - 1:
            if config.temporal_downsample[-1 - stage]:
                total += places * 12 * wide**2
                places *= 2
            places *= 4
            before = wide // 2
            total += places * 18 * wide * before
    return total + 54 * places * before * 3
