"""Sizes of the encoders of text, picture and sound: plain values, read without JAX."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class UMT5Config:
    """Sizes of the encoder; the defaults are those of UMT5-XXL."""

    vocab: int = 256384
    """Rows of the embedding table."""
    dim: int = 4096
    """Width D of a token."""
    attention_dim: int = 4096
    """Width of the queries over all heads."""
    ffn_dim: int = 10240
    """Width of the gated feed-forward."""
    heads: int = 64
    """Attention heads N, which divide `attention_dim`."""
    layers: int = 24
    """Number of encoder layers."""
    buckets: int = 32
    """Number of classes into which the position bias sorts distances, half for each direction; a multiple of 4."""
    max_distance: int = 128
    """Distance in tokens from which on all distances belong to the last class."""
    shared_bias: bool = False
    """One position bias for all layers (T5) instead of one in each (UMT5)."""


@dataclass(frozen=True, kw_only=True)
class CLIPVisionConfig:
    """Sizes of the encoder; the defaults are those of ViT-H/14."""

    image_size: int = 224
    """Height and width in pixels that every picture is resized to."""
    patch: int = 14
    """Height and width of a patch in pixels, which divides `image_size`."""
    dim: int = 1280
    """Width D of a token."""
    mlp_ratio: int = 4
    """Width of the feed-forward over `dim`."""
    heads: int = 16
    """Attention heads N, which divide `dim`."""
    layers: int = 32
    """Number of transformer layers in the whole tower, at least 2; the last one is not run."""
    embedding_dim: int = 1024
    """Width of the space that CLIP shares between pictures and texts."""


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2Config:
    """Sizes of the encoder; the defaults are those of wav2vec2-base-960h."""

    dim: int = 768
    """Width D of a feature."""
    ffn_dim: int = 3072
    """Width of the feed-forward."""
    heads: int = 12
    """Attention heads N, which divide `dim`."""
    layers: int = 12
    """Number of transformer layers."""
    conv_dims: tuple[int, ...] = (512,) * 7
    """Channels of each strided convolution."""
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    """Kernel size of each strided convolution."""
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    """Stride of each strided convolution."""
    position_kernel: int = 128
    """Kernel size of the convolution that encodes positions."""
    position_groups: int = 16
    """Groups of that convolution's channels, which divide `dim`."""
    eps: float = 1e-5
    """Epsilon of every norm."""

    def output_length(self, samples: int) -> int:
        """Features that `samples` sound samples give; 0 where they are too few for one (400 in the real sizes)."""
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return max(samples, 0)

    def reach(self) -> tuple[int, int]:
        """How many samples a feature is made of before the transformer, and how many lie from one to the next: 400 and
        320. Feature i is made of the samples from 320 i on."""
        field, step = 1, 1
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            field, step = field + (kernel - 1) * step, step * stride
        return field, step
