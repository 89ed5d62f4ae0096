"""The model at work for measurements: what `sample.py` does, from a picture and a sound in memory to frames."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.checkpoint import check_params, load_part
from stableavatar_jax.config import read_config
from stableavatar_jax.encoding.encoders import Encoders
from stableavatar_jax.models.avatar import abstract_params, part
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.plan import cost as plan
from stableavatar_jax.sampling.config import SampleConfig, check
from stableavatar_jax.sampling.decode import decode
from stableavatar_jax.sampling.sampler import denoise, load_transformer
from stableavatar_jax.shapes import Float, UInt8

Frames = UInt8[np.ndarray, "T H W 3"]
Codec = Callable[[Float[np.ndarray, "B T H W 3"]], Float[np.ndarray, "B T H W 3"]]


def talk(config: SampleConfig, picture: Image.Image, samples: Float[np.ndarray, "S"], prompt: str) -> Frames:
    """The frames of a talking video to 16 kHz sound. Raises ValueError for weights that are missing or do not fit."""
    config = check(dataclasses.replace(config, image=Path("in memory"), audio=Path("in memory")))
    cost = plan.plan(config, len(samples))
    encoders = Encoders(config.model, config.checkpoint, config.dtype, config.seed)
    fitted = media.fit_picture(picture, config.height, config.width, config.fit, config.crop)
    conditions = encoders.conditions(fitted, samples, [prompt, config.negative_prompt], cost.windows, config.fps)
    z = denoise(config, *load_transformer(config), conditions, cost.windows)
    vae, params = load_part(config.checkpoint, config.model, "vae", seed=config.seed)
    return np.concatenate(list(decode(vae, params, z, cost.frames)))


def load_codec(checkpoint: Path) -> Codec:
    """Videos of 1 + 4n frames in -1..1 through a model directory's video autoencoder and back.

    Raises ValueError where it is missing or does not fit its config.json.
    """
    model = read_config(checkpoint, AvatarConfig)
    check_params(checkpoint / "vae", abstract_params(part(model, "vae")))
    vae, params = load_part(checkpoint, model, "vae")

    @jax.jit
    def there_and_back(params: Any, video: Any) -> Any:
        z, *_ = vae.apply({"params": params}, video, method="encode")
        return vae.apply({"params": params}, z, method="decode")[0]

    return lambda video: np.asarray(there_and_back(params, jnp.asarray(video)))
