"""The Wan2.1 causal video autoencoder: 4n + 1 frames <-> n + 1 latent frames, 8 x 8 pixels to one latent place.

Nothing reads a later frame, so a video of any length is encoded or decoded chunk by chunk: the cache that one call
returns and the next one takes holds the last frames before every convolution. Any chunking gives the result of the
whole, to rounding; memory grows with the chunk and not with the video.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from stableavatar_jax.models.causal_conv import CausalConv
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import VAEConfig
from stableavatar_jax.models.layers import Linear
from stableavatar_jax.models.vae_layers import (
    Cache,
    Downsample,
    FrameAttention,
    Head,
    ResidualBlock,
    Upsample,
    chain,
)
from stableavatar_jax.shapes import Array, Float, Key


def sample(
    key: Key[Array, ""], mean: Float[Array, "B F H W C"], logvar: Float[Array, "B F H W C"]
) -> Float[Array, "B F H W C"]:
    """A draw from the posterior that `VAE.encode` gives, in training's convention.

    As in the release, only the mean is normalised, so the noise has the standard deviation of the raw latents:
    `exp(logvar / 2)` is not divided by `latents_std`. Sampling takes the mode, which is `mean`.
    """
    return reparameterise(mean, logvar, jax.random.normal(key, mean.shape, mean.dtype))


def reparameterise(
    mean: Float[Array, "B F H W C"], logvar: Float[Array, "B F H W C"], noise: Float[Array, "B F H W C"]
) -> Float[Array, "B F H W C"]:
    """The posterior's value where its standard normal noise is `noise`."""
    return mean + jnp.exp(logvar / 2) * noise


class VAE(nn.Module):
    """Encoder and decoder between video in [-1, 1] and normalised latents."""

    config: VAEConfig
    compute: Compute = Compute()

    def setup(self):
        """Wan's two halves, and the linear maps (its `conv1`, `conv2`) on either side of the latents."""
        config, compute, axes = self.config, self.compute, ("vae_in", "vae_out")
        self.encoder = Encoder(config, compute)
        self.moments = Linear(2 * config.z_dim, axes, compute=compute)
        self.entry = Linear(config.z_dim, axes, compute=compute)
        self.decoder = Decoder(config, compute)

    def __call__(self, video: Float[Array, "B T H W 3"]) -> Float[Array, "B U H W 3"]:
        """The video as its latents remember it."""
        mean, _, _ = self.encode(video)
        return self.decode(mean)[0]

    def example(self) -> tuple[Float[Array, "B T H W 3"]]:
        """Input for `init`."""
        size = self.config.space_factor
        return (jnp.zeros((1, 1 + self.config.time_factor, size, size, 3)),)

    def encode(
        self, video: Float[Array, "B T H W 3"], cache: Cache | None = None
    ) -> tuple[Float[Array, "B F h w C"], Float[Array, "B F h w C"], Cache]:
        """Normalised mean and raw log variance (within [-30, 20]) of the latents' posterior, and the cache.

        Without a cache the video starts here, with 1 + 4k frames; the last (T - 1) % 4 of any other number are
        dropped, as in the reference. With the cache of the chunk before, it goes on by 4k frames. Raises ValueError
        for sizes that are not whole latent rows and columns, and for a later chunk that is not whole latent frames.
        """
        factor, (frames, height, width) = self.config.time_factor, video.shape[1:4]
        if height % self.config.space_factor or width % self.config.space_factor:
            raise ValueError(f"video of {height}x{width}: both must be multiples of {self.config.space_factor}")
        if cache is None:
            video = video[:, : frames - (frames - 1) % factor]
        elif frames % factor:
            raise ValueError(f"a chunk of {frames} frames: after the first, chunks need a multiple of {factor}")
        x, cache = self.encoder(video, cache)
        mean, logvar = jnp.split(self.moments(x).astype(jnp.float32), 2, axis=-1)
        shift, scale = self._normalisation()
        return (mean - shift) / scale, jnp.clip(logvar, -30.0, 20.0), cache

    def decode(
        self, z: Float[Array, "B F h w C"], cache: Cache | None = None
    ) -> tuple[Float[Array, "B T H W 3"], Cache]:
        """Frames in [-1, 1] of normalised latents, and the cache.

        n latent frames become 1 + 4(n - 1) frames without a cache, where the video starts, and 4n with one. One latent
        frame at a time is the release's way and needs the least memory: in float32 at 480x832 a cache of 3.8 GB, and
        about as much besides. Donate the cache to the jitted call, or there will be two.
        """
        x, cache = self.decode_unclipped(z, cache)
        return jnp.clip(x, -1.0, 1.0), cache

    def decode_unclipped(
        self, z: Float[Array, "B F h w C"], cache: Cache | None = None
    ) -> tuple[Float[Array, "B T H W 3"], Cache]:
        """`decode` before the clip, for training: beyond -1 and 1 a clip would take the gradient away."""
        shift, scale = self._normalisation()
        x, cache = self.decoder(self.entry(z.astype(jnp.float32) * scale + shift), cache)
        return x.astype(jnp.float32), cache

    def _normalisation(self) -> tuple[Array, Array]:
        shift, scale = self.config.latents_mean, self.config.latents_std
        return jnp.float32(shift[: self.config.z_dim]), jnp.float32(scale[: self.config.z_dim])


class Encoder(nn.Module):
    """Video to features at the latents' size."""

    config: VAEConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W 3"], cache: Cache | None = None
    ) -> tuple[Float[Array, "B F h w D"], Cache]:
        """Wan's `encoder`; `VAE` maps the features to moments."""
        config, options = self.config, _options(self.config, self.compute)
        widths = [config.dim * mult for mult in config.dim_mult]
        layers: list[nn.Module] = [CausalConv(widths[0], name="conv_in", **options)]
        for stage, width in enumerate(widths):
            for block in range(config.num_res_blocks):
                layers.append(ResidualBlock(width, name=f"down{stage}_block{block}", **options))
            if stage < len(widths) - 1:
                halved = config.temporal_downsample[stage]
                layers.append(Downsample(halved, name=f"down{stage}_resample", **options))
        layers += [*_middle(widths[-1], options), Head(2 * config.z_dim, name="head", **options)]
        return chain(layers, x, cache)


class Decoder(nn.Module):
    """Features at the latents' size to video."""

    config: VAEConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B F h w C"], cache: Cache | None = None
    ) -> tuple[Float[Array, "B T H W 3"], Cache]:
        """Wan's `decoder`; its frames are not yet clipped to [-1, 1]."""
        config, options = self.config, _options(self.config, self.compute)
        widths = [config.dim * mult for mult in reversed(config.dim_mult)]
        layers: list[nn.Module] = [CausalConv(widths[0], name="conv_in", **options), *_middle(widths[0], options)]
        for stage, width in enumerate(widths):
            for block in range(config.num_res_blocks + 1):
                layers.append(ResidualBlock(width, name=f"up{stage}_block{block}", **options))
            if stage < len(widths) - 1:
                doubled = config.temporal_downsample[-1 - stage]
                layers.append(Upsample(doubled, name=f"up{stage}_resample", **options))
        return chain([*layers, Head(3, name="head", **options)], x, cache)


def _options(config: VAEConfig, compute: Compute) -> dict[str, Any]:
    """The options that every layer is built with."""
    on_cpu = "winograd" if compute.dtype == "float32" else "taps"
    by_device = on_cpu if compute.platform == "cpu" else "direct"
    return {"form": by_device if config.conv == "auto" else config.conv, "compute": compute}


def _middle(width: int, options: dict[str, Any]) -> list[nn.Module]:
    return [
        ResidualBlock(width, name="middle_block0", **options),
        FrameAttention(name="middle_attention", **options),
        ResidualBlock(width, name="middle_block1", **options),
    ]
