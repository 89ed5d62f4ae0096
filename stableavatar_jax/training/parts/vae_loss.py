"""What the video autoencoder minimises, and what is reported of it."""

import jax.numpy as jnp

from stableavatar_jax.shapes import Array, Bool, Float
from stableavatar_jax.training.parts.config import VAELossConfig


def reconstruction_loss(
    video: Float[Array, "B T H W 3"],
    given: Float[Array, "B T H W 3"],
    mean: Float[Array, "B F h w C"],
    logvar: Float[Array, "B F h w C"],
    face_mask: Bool[Array, "B T H W"],
    lip_mask: Bool[Array, "B T H W"],
    config: VAELossConfig,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The loss of a video given back (unclipped), and what is reported of it."""
    lips = lip_mask.astype(jnp.float32)[..., None]
    weight = 1 + config.lip * lips + config.face * face_mask.astype(jnp.float32)[..., None]
    weight = weight / weight.mean()
    error = given - video
    absolute, squared = (weight * jnp.abs(error)).mean(), (weight * jnp.square(error)).mean()
    kl = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1 - logvar).mean()
    loss = absolute + config.squared * squared + config.kl * kl
    if config.edge:
        down, across = jnp.diff(error, axis=2), jnp.diff(error, axis=3)
        edges = (weight[:, :, 1:] * jnp.abs(down)).mean() + (weight[:, :, :, 1:] * jnp.abs(across)).mean()
        loss += config.edge * edges
    if config.motion and video.shape[1] > 1:
        loss += config.motion * (weight[:, 1:] * jnp.abs(jnp.diff(error, axis=1))).mean()
    shown = jnp.square(jnp.clip(given, -1, 1) - video)
    return loss, {
        "absolute": absolute,
        "squared": squared,
        "psnr": decibels(shown.mean()),
        "lip_psnr": decibels((lips * shown).sum() / (3 * lips.sum())),
        "kl": kl,
        "latents_std": mean.std(),
    }


def decibels(error: Float[Array, ""]) -> Float[Array, ""]:
    """Peak signal to noise ratio of a mean squared error of pixels in -1..1; NaN where there were no pixels."""
    return 10 * jnp.log10(4 / error)
