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
    kl = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1 - logvar).mean()
    loss = size(error, weight, config) + config.kl * kl
    if config.colour:
        loss += config.colour * size(colour(error), weight, config)
    shown = jnp.square(jnp.clip(given, -1, 1) - video)
    return loss, {
        "absolute": (weight * jnp.abs(error)).mean(),
        "squared": (weight * jnp.square(error)).mean(),
        "psnr": decibels(shown.mean()),
        "lip_psnr": decibels((lips * shown).sum() / (3 * lips.sum())),
        "kl": kl,
        "latents_std": mean.std(),
    }


def size(
    error: Float[Array, "B T H W C"], weight: Float[Array, "B T H W 1"], config: VAELossConfig
) -> Float[Array, ""]:
    """Weighted mean of the absolute error, of its square and of its differences between neighbours."""
    absolute = lambda error, weight: (weight * jnp.abs(error)).mean()  # noqa: E731
    total = absolute(error, weight) + config.squared * (weight * jnp.square(error)).mean()
    if config.edge:
        edges = [absolute(jnp.diff(error, axis=axis), weight[*(slice(None),) * axis, 1:]) for axis in (2, 3)]
        total += config.edge * sum(edges)
    if config.motion and error.shape[1] > 1:
        total += config.motion * absolute(jnp.diff(error, axis=1), weight[:, 1:])
    return total


def colour(pixels: Float[Array, "*B 3"]) -> Float[Array, "*B 2"]:
    """Cb and Cr (ITU-R BT.601): blue and red, each less the luminance, in the range of the pixels."""
    light = pixels @ jnp.array((0.299, 0.587, 0.114), pixels.dtype)
    return jnp.stack([(pixels[..., 2] - light) / 0.886, (pixels[..., 0] - light) / 0.701], axis=-1) / 2


def decibels(error: Float[Array, ""]) -> Float[Array, ""]:
    """Peak signal to noise ratio of a mean squared error of pixels in -1..1; NaN where there were no pixels."""
    return 10 * jnp.log10(4 / error)
