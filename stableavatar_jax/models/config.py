"""Sizes and options of every network: plain values, read without JAX (a wrong option is answered at once)."""

from dataclasses import dataclass, field
from typing import Literal

from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import FRAMES_PER_LATENT, PIXELS_PER_LATENT
from stableavatar_jax.models.encoder_config import CLIPVisionConfig, UMT5Config, Wav2Vec2Config

__all__ = [
    "Ablation", "AudioAdapterConfig", "AvatarConfig", "CLIPVisionConfig", "Conv", "DiTConfig", "LoRAConfig",
    "UMT5Config", "VAEConfig", "Wav2Vec2Config",
]  # fmt: skip

Ablation = Literal["full", "project", "no_modulation", "random_modulation", "no_cross_attention"]
Conv = Literal["auto", "winograd", "taps", "direct"]


@dataclass(frozen=True, kw_only=True)
class AudioAdapterConfig:
    """Sizes of the audio adapter; the defaults are those of the 1.3B model."""

    audio_dim: int = 768
    """Width of the audio encoder's features."""
    dim: int = 1536
    """Width of the DiT that the adapter belongs to."""
    projection_dims: tuple[int, ...] = ()
    """Widths of projections before the last one, each followed by LayerNorm (14B: 2048)."""
    blocks: int = 2
    """Number of refining blocks."""
    heads: int = 8
    """Number of attention heads in a refining block."""
    ffn_dim: int | None = None
    """Width inside a refining block's feed-forward; twice `dim` where it is not given, as released."""
    context: int = 4
    """Number of audio tokens that a slot takes beyond its latent frame, on each side (paper Eq. 1)."""
    slot_positions: int = 0
    """Number of places in a slot with a learned embedding, which is added to the audio token there; 0 as released.
    Features of an audio encoder trained from scratch may be alike in neighbouring places."""
    ablation: Ablation = "full"
    """What the adapter leaves out: the rows of the paper's Table 3."""

    @property
    def ffn_width(self) -> int:
        """Width inside a refining block's feed-forward."""
        return self.ffn_dim or 2 * self.dim


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Sizes of the transformer; the defaults are those of the 1.3B model."""

    dim: int = 1536
    """Width of a token."""
    ffn_dim: int = 8960
    """Width inside the feed-forward."""
    heads: int = 12
    """Number of attention heads."""
    layers: int = 30
    """Number of blocks."""
    patch: tuple[int, int, int] = (1, 2, 2)
    """Latent frames, rows and columns that make one token."""
    in_channels: int = 36
    """Channels of the noisy latents, the mask (4) and the reference latents together."""
    out_channels: int = 16
    """Channels of the velocity."""
    text_dim: int = 4096
    """Width of the text encoder's features."""
    text_len: int = 512
    """Number of text tokens; shorter texts are padded with zeros."""
    image_dim: int = 1280
    """Width of the image encoder's features."""
    time_dim: int = 256
    """Number of sinusoids that describe the noise level."""
    adapter: AudioAdapterConfig = field(default_factory=AudioAdapterConfig)
    """The audio adapter inside the transformer."""
    mask_padding: bool = False
    """Whether attention skips the padding of audio slots, as the 14B release does, or reads it, as 1.3B does."""

    def __post_init__(self):
        if self.adapter.dim != self.dim:
            raise Mistake(f"the adapter's dim {self.adapter.dim} is not the transformer's {self.dim}")
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
    """Whether the number of frames halves too, for each pair of neighbouring encoder stages."""
    latents_mean: tuple[float, ...] = (
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    )  # fmt: skip
    """Mean of each latent channel over Wan's data, subtracted by `encode`; the first `z_dim` are used."""
    latents_std: tuple[float, ...] = (
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
        3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    )  # fmt: skip
    """Standard deviation of each latent channel, divided out by `encode`; the first `z_dim` are used."""
    conv: Conv = "auto"
    """How causal convolutions are computed (`models/causal_conv.py`): `winograd` on a CPU in float32, `taps` on one in
    another dtype, `direct` (fast elsewhere, and soon compiled); or by these rules."""

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
class AvatarConfig:
    """A model: its five networks, and what they agree on. The defaults are the 1.3B model."""

    dit: DiTConfig = field(default_factory=DiTConfig)
    """The diffusion transformer with its audio adapter."""
    vae: VAEConfig = field(default_factory=VAEConfig)
    """The video autoencoder."""
    umt5: UMT5Config = field(default_factory=UMT5Config)
    """The text encoder."""
    clip_vision: CLIPVisionConfig = field(default_factory=CLIPVisionConfig)
    """The image encoder."""
    wav2vec2: Wav2Vec2Config = field(default_factory=Wav2Vec2Config)
    """The audio encoder."""
    after_picture: Literal["grey", "again"] = "grey"
    """What the reference holds after the picture's own latent frame: grey frames, as in Wan2.1, or the picture again,
    which is easier for a small transformer."""
    tokenizer: Literal["file", "bytes"] = "file"
    """Where text tokens come from: the model directory's tokenizer.json, or the bytes of the text (ByT5)."""

    def __post_init__(self):
        agree = [
            ("dit.text_dim", self.dit.text_dim, "umt5.dim", self.umt5.dim),
            ("dit.image_dim", self.dit.image_dim, "clip_vision.dim", self.clip_vision.dim),
            ("dit.adapter.audio_dim", self.dit.adapter.audio_dim, "wav2vec2.dim", self.wav2vec2.dim),
            ("dit.out_channels", self.dit.out_channels, "vae.z_dim", self.vae.z_dim),
            ("dit.in_channels", self.dit.in_channels, "2 * vae.z_dim + 4", 2 * self.vae.z_dim + FRAMES_PER_LATENT),
            ("vae.time_factor", self.vae.time_factor, "the video's", FRAMES_PER_LATENT),
            ("vae.space_factor", self.vae.space_factor, "the picture's", PIXELS_PER_LATENT),
        ]
        for ours, value, theirs, other in agree:
            if value != other:
                raise Mistake(f"{ours} is {value} and {theirs} is {other}; the parts of a model must agree")


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Sizes of the LoRA factors; the defaults are the release's."""

    rank: int = 128
    """Rank of the product of the two factors."""
    alpha: float = 64.0
    """The product of the factors is scaled by `alpha / rank`."""

    def __post_init__(self):
        if self.rank < 1 or self.alpha <= 0:
            raise Mistake(f"rank {self.rank} and alpha {self.alpha}: at least 1 and above 0 are needed")
