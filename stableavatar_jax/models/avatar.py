"""All parts of a model together: what `config.json` of a model directory holds."""

from typing import Any

import flax.linen as nn
import jax

from stableavatar_jax.models.clip_vision import CLIPVision
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.models.umt5 import UMT5
from stableavatar_jax.models.vae import VAE
from stableavatar_jax.models.wav2vec2 import Wav2Vec2

PARTS: dict[str, type[nn.Module]] = {
    "dit": DiT,
    "vae": VAE,
    "umt5": UMT5,
    "clip_vision": CLIPVision,
    "wav2vec2": Wav2Vec2,
}



def part(config: AvatarConfig, name: str) -> nn.Module:
    """The network of one part, by its name in `PARTS`."""
    return PARTS[name](getattr(config, name))


def boxed_params(module: nn.Module) -> Any:
    """Shapes and dtypes of a network's params, with the names of their axes; nothing is allocated."""
    return jax.eval_shape(module.init, jax.random.key(0), *module.example())["params"]


def abstract_params(module: nn.Module) -> Any:
    """Shapes and dtypes of a network's params, as a plain dict of `jax.ShapeDtypeStruct`."""
    return nn.unbox(boxed_params(module))
