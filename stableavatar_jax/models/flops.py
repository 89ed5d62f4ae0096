"""Floating-point operations of one evaluation of the DiT: two for every multiply-add of a matrix product."""

from stableavatar_jax.models.dit_block import DiTConfig

IMAGE_TOKENS = 257


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
    refine = c.adapter.blocks * (4 * tokens * c.dim**2 + audio_tokens * (4 + 8) * c.dim**2)
    refine += 2 * audio_tokens * c.dim**2
    return float(branches * (c.layers * block + ends) + audios * refine)
