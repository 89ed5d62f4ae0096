"""All parts of a model together: what `config.json` of a model directory holds."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import flax.linen as nn
import jax

from stableavatar_jax.models.clip_vision import CLIPVision, CLIPVisionConfig
from stableavatar_jax.models.dit import DiT, DiTConfig
from stableavatar_jax.models.umt5 import UMT5, UMT5Config
from stableavatar_jax.models.vae import VAE, VAEConfig
from stableavatar_jax.models.wav2vec2 import Wav2Vec2, Wav2Vec2Config

PARTS: dict[str, type[nn.Module]] = {
    "dit": DiT,
    "vae": VAE,
    "umt5": UMT5,
    "clip_vision": CLIPVision,
    "wav2vec2": Wav2Vec2,
}


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
                raise ValueError(f"{ours} is {value} and {theirs} is {other}; the parts of a model must agree")


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


def part(config: AvatarConfig, name: str) -> nn.Module:
    """The network of one part, by its name in `PARTS`."""
    return PARTS[name](getattr(config, name))


def boxed_params(module: nn.Module) -> Any:
    """Shapes and dtypes of a network's params, with the names of their axes; nothing is allocated."""
    return jax.eval_shape(module.init, jax.random.key(0), *module.example())["params"]


def abstract_params(module: nn.Module) -> Any:
    """Shapes and dtypes of a network's params, as a plain dict of `jax.ShapeDtypeStruct`."""
    return nn.unbox(boxed_params(module))
