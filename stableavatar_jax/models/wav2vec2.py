"""The audio encoder: wav2vec 2.0 base (Baevski et al. 2020), raw sound at 16 kHz to 50 features a second."""


import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from stableavatar_jax.models.attention import attention
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import Wav2Vec2Config
from stableavatar_jax.models.layers import Axes, LayerNorm, Linear, named, stack
from stableavatar_jax.shapes import Array, Bool, Float


class Wav2Vec2(nn.Module):
    """Sound to the features of the last layer."""

    config: Wav2Vec2Config
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, samples: Float[Array, "B S"], masked: Bool[Array, "B A"] | None = None
    ) -> Float[Array, "B A D"]:
        """Encode sound of zero mean and unit variance (`Wav2Vec2FeatureExtractor`); padding is read as silence.

        A is `config.output_length(S)`; raises ValueError where it is 0. `masked` is True on features to hide before
        the transformer (SpecAugment, in training).
        """
        config = self.config
        if config.output_length(samples.shape[1]) == 0:
            raise ValueError(f"{samples.shape[1]} samples are too few for one feature of wav2vec2; give a longer sound")
        init = named(nn.initializers.uniform(1.0), "embed")
        blank = self.param("masked_feature", init, (config.dim,), self.compute.param_dtype)
        x = ConvFeatures(config, self.compute, name="conv_features")(samples)
        x = norm(config.eps, self.compute, "feature_norm")(x)
        x = linear(self.compute, config.dim, (None, "embed"), "project")(x)
        if masked is not None:
            x = jnp.where(masked[..., None], blank.astype(x.dtype), x)
        x = norm(config.eps, self.compute, "norm")(x + PositionConv(config, self.compute, name="position_conv")(x))
        return stack(EncoderLayer(config, self.compute, name="layers"), config.layers, x)

    def example(self) -> tuple[jax.ShapeDtypeStruct]:
        """Shape of the input, for `init`."""
        samples = next(n for n in range(1, 1_000_000) if self.config.output_length(n))
        return (jax.ShapeDtypeStruct((1, samples), jnp.float32),)


class ConvFeatures(nn.Module):
    """Strided convolutions with GELU that shorten the sound 320 times; the first is normed over time."""

    config: Wav2Vec2Config
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, samples: Float[Array, "B S"]) -> Float[Array, "B A C"]:
        """Convolve sound samples down to features."""
        config = self.config
        x = samples[..., None].astype(self.compute.dtype)
        for i, (dim, kernel, stride) in enumerate(
            zip(config.conv_dims, config.conv_kernels, config.conv_strides, strict=True)
        ):
            x = StridedConv(dim, kernel, stride, self.compute, name=f"conv_{i}")(x)
            if i == 0:
                x = TimeNorm(config.eps, self.compute, name="norm")(x)
            x = nn.gelu(x, approximate=False)
        return x


class StridedConv(nn.Module):
    """A convolution over time without padding or bias."""

    features: int
    kernel: int
    stride: int
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Float[Array, "B S C"]) -> Float[Array, "B A D"]:
        """Map every `stride`-th stretch of `kernel` steps to `features` channels."""
        init, shape = named(nn.initializers.he_normal(), None, None, "mlp"), (self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", init, shape, self.compute.param_dtype)
        return jax.lax.conv_general_dilated(
            x, kernel.astype(self.compute.dtype), (self.stride,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
        )


class TimeNorm(nn.Module):
    """Zero mean and unit variance of each channel over the whole time axis (GroupNorm, a group for each channel)."""

    eps: float
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Float[Array, "B A C"]) -> Float[Array, "B A C"]:
        """Norm in float32, returned in the input's dtype."""
        x32 = x.astype(jnp.float32)
        variance = x32.var(1, keepdims=True)
        y = (x32 - x32.mean(1, keepdims=True)) * jax.lax.rsqrt(variance + self.eps)
        y = y * self.param("scale", named(nn.initializers.ones, "mlp"), x.shape[-1:], self.compute.param_dtype)
        y = y + self.param("bias", named(nn.initializers.zeros, "mlp"), x.shape[-1:], self.compute.param_dtype)
        return y.astype(x.dtype)


class PositionConv(nn.Module):
    """A wide grouped convolution with GELU that serves as position embedding; its weight is normed tap by tap."""

    config: Wav2Vec2Config
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Float[Array, "B A D"]) -> Float[Array, "B A D"]:
        """Read the surroundings of each feature."""
        config = self.config
        taps = config.position_kernel
        shape = (taps, config.dim // config.position_groups, config.dim)
        gain = self.param("gain", named(nn.initializers.ones, None), (taps,), self.compute.param_dtype)
        init = named(nn.initializers.he_normal(), None, None, "embed")
        kernel = self.param("kernel", init, shape, self.compute.param_dtype)
        bias = self.param("bias", named(nn.initializers.zeros, "embed"), (config.dim,), self.compute.param_dtype)
        gain, kernel = gain.astype(jnp.float32), kernel.astype(jnp.float32)
        kernel = kernel * (gain / jnp.sqrt(jnp.square(kernel).sum((1, 2))))[:, None, None]
        y = jax.lax.conv_general_dilated(
            x,
            kernel.astype(self.compute.dtype),
            (1,),
            [(taps // 2, (taps - 1) // 2)],  # an even number of taps lies half a step early
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=config.position_groups,
        )
        return nn.gelu(y + bias.astype(self.compute.dtype), approximate=False)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward with exact GELU, each added to its input and then normed."""

    config: Wav2Vec2Config
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Float[Array, "B A D"]) -> Float[Array, "B A D"]:
        """One transformer layer over the features of each sound."""
        config, compute = self.config, self.compute
        project = lambda name: linear(compute, config.dim, ("embed", "heads"), name)(x)  # noqa: E731
        q, k, v = (rearrange(project(name), "B A (N K) -> B A N K", N=config.heads) for name in "qkv")
        read = rearrange(attention(q, k, v, compute), "B A N K -> B A (N K)")
        x = norm(config.eps, compute, "norm1")(x + linear(compute, config.dim, ("heads", "embed"), "out")(read))
        up = nn.gelu(linear(compute, config.ffn_dim, ("embed", "mlp"), "up")(x), approximate=False)
        return norm(config.eps, compute, "norm2")(x + linear(compute, config.dim, ("mlp", "embed"), "down")(up))


def linear(compute: Compute, features: int, axes: Axes, name: str) -> Linear:
    """A linear layer by its name."""
    return Linear(features, axes, compute=compute, name=name)


def norm(eps: float, compute: Compute, name: str) -> LayerNorm:
    """A LayerNorm by its name."""
    return LayerNorm(eps=eps, compute=compute, name=name)
