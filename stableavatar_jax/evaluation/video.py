"""The model at work for measurements: a picture and a sound in memory to frames in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from stableavatar_jax.checkpoint import check_params, load_part
from stableavatar_jax.config import read_config
from stableavatar_jax.media import Samples
from stableavatar_jax.models.avatar import abstract_params, part
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.sampling.avatar import open_avatar
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.sampling.job import Job
from stableavatar_jax.sampling.video import frames
from stableavatar_jax.shapes import Float, UInt8

Frames = UInt8[np.ndarray, "T H W 3"]
Codec = Callable[[Float[np.ndarray, "B T H W 3"]], Float[np.ndarray, "B T H W 3"]]


def talk(config: SampleConfig, picture: Image.Image, samples: Float[np.ndarray, "S"], prompt: str) -> Frames:
    """The frames of a talking video to 16 kHz sound, at the model's own size. Raises Mistake as `video.frames`."""
    config = change(config, enlarge=1)
    job = Job(
        picture=picture, sound=Samples(samples), prompt=prompt, negative_prompt=config.inputs.negative_prompt,
        seed=config.inputs.seed, frame=config.frame, denoising=config.denoising,
    )  # fmt: skip
    return np.concatenate(list(frames(job, open_avatar(config))))


def load_codec(checkpoint: Path) -> Codec:
    """Videos of 1 + 4n frames in -1..1 through a model directory's video autoencoder and back.

    Raises Mistake where it is missing or does not fit its config.json.
    """
    model = read_config(checkpoint, AvatarConfig)
    check_params(checkpoint / "vae", abstract_params(part(model, "vae")))
    vae, params = load_part(checkpoint, model, "vae")

    @jax.jit
    def there_and_back(params: Any, video: Any) -> Any:
        z, *_ = vae.apply({"params": params}, video, method="encode")
        return vae.apply({"params": params}, z, method="decode")[0]

    return lambda video: np.asarray(there_and_back(params, jnp.asarray(video)))
