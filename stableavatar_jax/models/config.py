"""Sizes and options of every network: plain values, read without JAX (a wrong option is answered at once)."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from stableavatar_jax.errors import Mistake

Ablation = Literal["full", "project", "no_modulation", "random_modulation", "no_cross_attention"]
Form = Literal["auto", "taps", "direct"]


@dataclass(frozen=True, kw_only=True)
class AudioAdapterConfig:
    """The adapter; the defaults are those of the 1.3B model."""

    audio_dim: int = 768
    """Width of the audio encoder's features."""
    dim: int = 1536
    """Width of the DiT it belongs to."""
    projection_dims: tuple[int, ...] = ()
    """Widths of projections before the last one, each followed by LayerNorm (14B: 2048)."""
    blocks: int = 2
    """Refining blocks."""
    heads: int = 8
    """Attention heads of a refining block."""
    ffn_dim: int | None = None
    """Width inside a refining block's feed-forward; twice `dim` where it is not given, as released."""
    context: int = 4
    """Audio tokens a slot takes beyond its latent frame, on each side (paper Eq. 1)."""
    slot_positions: int = 0
    """Places in a slot that have a learned embedding, added to the audio token there; 0 for none, as released.
    An audio encoder trained from scratch tells its neighbours apart by nothing else."""
    ablation: Ablation = "full"
    """What is left out, for the rows of the paper's Table 3."""
    dtype: str = "float32"
    """Compute dtype."""
    param_dtype: str = "float32"
    """Dtype parameters are born in."""

    @property
    def ffn_width(self) -> int:
        """Width inside a refining block's feed-forward."""
        return self.ffn_dim or 2 * self.dim


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """The transformer; the defaults are the 1.3B model's."""

    dim: int = 1536
    """Width of a token."""
    ffn_dim: int = 8960
    """Width inside the feed-forward."""
    heads: int = 12
    """Attention heads."""
    layers: int = 30
    """Blocks."""
    patch: tuple[int, int, int] = (1, 2, 2)
    """Latent frames, rows and columns of one token."""
    in_channels: int = 36
    """Noisy latents, 4 mask channels and reference latents together."""
    out_channels: int = 16
    """Channels of the velocity."""
    text_dim: int = 4096
    """Width of the text encoder's features."""
    text_len: int = 512
    """Text tokens, padded with zeros."""
    image_dim: int = 1280
    """Width of the image encoder's features."""
    time_dim: int = 256
    """Sinusoids of the noise level."""
    adapter: AudioAdapterConfig = field(default_factory=AudioAdapterConfig)
    """The audio adapter nested in it."""
    mask_padding: bool = False
    """Whether padded audio slots are hidden from attention (the 14B release's kernel) or read (1.3B)."""
    remat: Literal["none", "full", "names", "offload"] = "none"
    """What the backward pass computes again instead of keeping: nothing; every block; every block but what is named
    in `SAVED`; the same with the named kept in the host's memory."""
    unroll: int = 1
    """Blocks laid out side by side in the compiled loop; `layers` is the plain loop."""
    dtype: str = "float32"
    """Compute dtype."""
    param_dtype: str = "float32"
    """Dtype parameters are born in."""

    def __post_init__(self):
        a = self.adapter
        if (a.dim, a.dtype, a.param_dtype) != (self.dim, self.dtype, self.param_dtype):
            raise Mistake(
                f"the adapter's dim and dtypes {(a.dim, a.dtype, a.param_dtype)} are not the DiT's "
                f"{(self.dim, self.dtype, self.param_dtype)}"
            )
        if self.dim % self.heads or self.dim // self.heads % 2:
            raise Mistake(f"dim {self.dim} does not give {self.heads} heads of an even size")


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Sizes of the autoencoder; the defaults are those of Wan2.1."""

    dim: int = 96
    """Channels at full resolution."""
    z_dim: int = 16
    """Channels of the latents."""
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    """Channels of each stage, in units of `dim`; between two stages rows and columns halve."""
    num_res_blocks: int = 2
    """Residual blocks of an encoder stage; a decoder stage has one more."""
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    """Between which encoder stages the frames halve too."""
    latents_mean: tuple[float, ...] = (
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    )  # fmt: skip
    """Mean of each latent channel over Wan's data, subtracted by `encode`; the first `z_dim` are used."""
    latents_std: tuple[float, ...] = (
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
        3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    )  # fmt: skip
    """Spread of each latent channel, divided out by `encode`; the first `z_dim` are used."""
    conv: Form = "auto"
    """How causal convolutions are computed: "taps" (fast on a CPU), "direct", or by the backend."""
    dtype: str = "float32"
    """Of the computation; latents and decoded frames are float32 always. With random weights of the real size bfloat16
    stays within 49 dB (frames) and 56 dB (latents) of float32, for a signal between -1 and 1."""
    param_dtype: str = "float32"
    """Of the weights."""

    def __post_init__(self):
        if len(self.temporal_downsample) != len(self.dim_mult) - 1:
            raise Mistake(
                f"temporal_downsample has {len(self.temporal_downsample)} entries, dim_mult {len(self.dim_mult)}: "
                "one is needed between every two stages"
            )
        if min(len(self.latents_mean), len(self.latents_std)) < self.z_dim:
            raise Mistake(f"latents_mean and latents_std need an entry for each of the {self.z_dim} latent channels")

    @property
    def time_factor(self) -> int:
        """Frames to one latent frame, but for the first (4)."""
        return 2 ** sum(self.temporal_downsample)

    @property
    def space_factor(self) -> int:
        """Rows and columns of pixels to one of latents (8)."""
        return 2 ** len(self.temporal_downsample)

    @property
    def layer_options(self) -> dict[str, Any]:
        """What every layer is told of how to compute."""
        return {"form": self.conv, "dtype": self.dtype, "param_dtype": self.param_dtype}

    def decoder_reach(self) -> int:
        """How many latent frames before its own a decoded frame depends on: 38 for Wan2.1.

        Decoding the last so many latents as if they began a video leaves the cache of having decoded them all, so an
        interrupted decoding is taken up without one. Counted from the earliest frame of latent frame 0 through the
        two-frame memory of every convolution, back to latents; frame j comes from frame ceil(j / 2) before upsampling.
        """
        stage = 4 * (self.num_res_blocks + 1)
        frame = 1 - self.time_factor - 2 - stage
        for doubled in self.temporal_downsample:
            frame = (-(-frame // 2) - 2 if doubled else frame) - stage
        return -(frame - 4 * 2 - 2)


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
    """Encoder layers."""
    buckets: int = 32
    """Classes of distance the position bias tells apart, half of them for each direction; a multiple of 4."""
    max_distance: int = 128
    """Distance in tokens from which all fall into the last class."""
    shared_bias: bool = False
    """One position bias for all layers (T5) instead of one in each (UMT5)."""
    dtype: str = "float32"
    """Type of the computation; softmax and norms are float32 throughout."""
    param_dtype: str = "float32"
    """Type the weights are kept in."""


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
    """Transformer layers of the whole tower, at least 2."""
    embedding_dim: int = 1024
    """Width of the space that CLIP shares between pictures and texts."""
    dtype: str = "float32"
    """Type of the computation after the patches; softmax and norms are float32 throughout."""
    param_dtype: str = "float32"
    """Type the weights are kept in."""


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
    """Transformer layers."""
    conv_dims: tuple[int, ...] = (512,) * 7
    """Channels of each strided convolution."""
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    """Taps of each."""
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    """Steps of each."""
    position_kernel: int = 128
    """Taps of the convolution that tells the features their places."""
    position_groups: int = 16
    """Groups of its channels, which divide `dim`."""
    eps: float = 1e-5
    """Epsilon of every norm."""
    dtype: str = "float32"
    """Type of the computation; softmax and norms are float32 throughout."""
    param_dtype: str = "float32"
    """Type the weights are kept in."""

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


@dataclass(frozen=True, kw_only=True)
class AvatarConfig:
    """A model: its five networks, and what they agree on. The defaults are the 1.3B model."""

    dit: DiTConfig = field(default_factory=DiTConfig)
    """The diffusion transformer with its audio adapter."""
    vae: VAEConfig = field(default_factory=VAEConfig)
    """Video to latents and back."""
    umt5: UMT5Config = field(default_factory=UMT5Config)
    """Text encoder."""
    clip_vision: CLIPVisionConfig = field(default_factory=CLIPVisionConfig)
    """Image encoder."""
    wav2vec2: Wav2Vec2Config = field(default_factory=Wav2Vec2Config)
    """Audio encoder."""
    after_picture: Literal["grey", "again"] = "grey"
    """What follows the picture's latents in the reference of a window: those of grey frames (Wan2.1), or the picture's
    again, which tell every latent frame what it looks like and are easier on a small transformer."""
    tokenizer: Literal["file", "bytes"] = "file"
    """Text tokens: from the model directory's tokenizer.json, or one for each byte (ByT5)."""

    def __post_init__(self):
        agree = [
            ("dit.text_dim", self.dit.text_dim, "umt5.dim", self.umt5.dim),
            ("dit.image_dim", self.dit.image_dim, "clip_vision.dim", self.clip_vision.dim),
            ("dit.adapter.audio_dim", self.dit.adapter.audio_dim, "wav2vec2.dim", self.wav2vec2.dim),
            ("dit.out_channels", self.dit.out_channels, "vae.z_dim", self.vae.z_dim),
            ("dit.in_channels", self.dit.in_channels, "2 * vae.z_dim + 4", 2 * self.vae.z_dim + 4),
        ]
        for ours, value, theirs, other in agree:
            if value != other:
                raise Mistake(f"{ours} is {value} and {theirs} is {other}; the parts of a model must agree")


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Size of the factors; the defaults are the release's."""

    rank: int = 128
    """Columns of the thin factors."""
    alpha: float = 64.0
    """The product is scaled by `alpha / rank`."""

    def __post_init__(self):
        if self.rank < 1 or self.alpha <= 0:
            raise Mistake(f"rank {self.rank} and alpha {self.alpha}: at least 1 and above 0 are needed")


def with_dtype(config: Any, dtype: str, param_dtype: str) -> Any:
    """A config with these dtypes throughout, for computation and for weights."""
    changes: dict[str, Any] = {}
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if each.name in ("dtype", "param_dtype"):
            changes[each.name] = dtype if each.name == "dtype" else param_dtype
        elif dataclasses.is_dataclass(value):
            changes[each.name] = with_dtype(value, dtype, param_dtype)
    return dataclasses.replace(config, **changes)
