"""Training the video autoencoder on crops of clips: its options, loss, run, data and export."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.config import ConfigError
from stableavatar_jax.data.crops import CropConfig, CropSource
from stableavatar_jax.data.dataset import ClipDataset
from stableavatar_jax.data.pipeline import CheckpointableIterator, open_batches
from stableavatar_jax.data.tally import Tally
from stableavatar_jax.models.avatar import with_dtype
from stableavatar_jax.models.vae import VAE, sample
from stableavatar_jax.shapes import Array, Bool, Float, UInt8
from stableavatar_jax.training.config import RunConfig
from stableavatar_jax.training.parts import Params, prepare_parts
from stableavatar_jax.training.run import Run, best_state, write_parts
from stableavatar_jax.training.state import OptimizerConfig

SURE = -6.0  # log variance of a fresh VAE's latents: at 0 the noise would be as large as they are


@dataclass(frozen=True, kw_only=True)
class VAELossConfig:
    """What the autoencoder minimises: weighted mean errors of pixels in -1..1, and a little of everything else."""

    squared: float = 1.0
    """Weight of the squared error, beside 1 for the absolute."""
    lip: float = 4.0
    """What a pixel of the lips weighs more."""
    face: float = 1.0
    """What a pixel of the face weighs more."""
    edge: float = 0.0
    """Weight of the absolute error of differences between neighbouring pixels."""
    motion: float = 0.0
    """Weight of the absolute error of differences between neighbouring frames; pictures have none."""
    kl: float = 1e-6
    """Weight of the mean divergence of a latent's posterior from the normal distribution, in nats."""


@dataclass(frozen=True, kw_only=True)
class VAETrainConfig(RunConfig):
    """Train the video autoencoder on clips; the same command goes on where it stopped.

    python train.py --part vae --config configs/demo_vae.py --clips DIR --run-dir DIR --steps N
    """

    crop: CropConfig = field(default_factory=CropConfig)
    loss: VAELossConfig = field(default_factory=VAELossConfig)
    batch: int = 8
    """Rows of a step, over all devices together."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=1e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, clip=(1.0, 1.0), clip_spikes=False,
            ema=0.999,
        )
    )  # fmt: skip


Config = VAETrainConfig


def network(config: VAETrainConfig) -> VAE:
    """The autoencoder as it is trained: its latents are the raw ones, which are normalised only when it is exported."""
    vae = config.model.vae
    raw = dataclasses.replace(vae, latents_mean=(0.0,) * vae.z_dim, latents_std=(1.0,) * vae.z_dim)
    return VAE(with_dtype(raw, config.dtype, "float32"))


def prepare(config: VAETrainConfig) -> Run:
    """The run of a config; raises ValueError where the batch cannot be spread over the devices."""
    vae = network(config)
    apply: Any = vae.apply

    def loss(params: Params, batch: Mapping[str, Array], key: Array) -> tuple[Float[Array, ""], dict[str, Array]]:
        video = centred(batch["video"])
        mean, logvar, _ = apply({"params": params["vae"]}, video, method="encode")
        z = sample(key, mean, logvar)
        given, _ = apply({"params": params["vae"]}, z, method="decode_unclipped")
        return reconstruction_loss(video, given, mean, logvar, batch["face_mask"], batch["lip_mask"], config.loss)

    return prepare_parts(config, {"vae": vae}, loss, start=lambda params: {"vae": one_frame_start(params["vae"])})


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
    absolute, squared = (weight * jnp.abs(error)).mean(), (weight * jnp.square(error)).mean()
    kl = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1 - logvar).mean()
    loss = absolute + config.squared * squared + config.kl * kl
    if config.edge:
        down, across = jnp.diff(error, axis=2), jnp.diff(error, axis=3)
        edges = (weight[:, :, 1:] * jnp.abs(down)).mean() + (weight[:, :, :, 1:] * jnp.abs(across)).mean()
        loss += config.edge * edges
    if config.motion and video.shape[1] > 1:
        loss += config.motion * (weight[:, 1:] * jnp.abs(jnp.diff(error, axis=1))).mean()
    shown = jnp.square(jnp.clip(given, -1, 1) - video)
    return loss, {
        "absolute": absolute,
        "squared": squared,
        "psnr": decibels(shown.mean()),
        "lip_psnr": decibels((lips * shown).sum() / (3 * lips.sum())),
        "kl": kl,
        "latents_std": mean.std(),
    }


def decibels(error: Float[Array, ""]) -> Float[Array, ""]:
    """Peak signal to noise ratio of a mean squared error of pixels in -1..1; NaN where there were no pixels."""
    return 10 * jnp.log10(4 / error)


def one_frame_start(params: Params) -> Params:
    """Fresh weights as if every frame were a picture: convolutions read their own frame alone, and time is halved by
    taking the later of two frames and doubled by repeating it. What is then learned from pictures holds for videos.

    The latents begin nearly certain (`SURE`).
    """

    def start(path, leaf):
        names = [getattr(key, "key", None) for key in path]
        if names[-1] != "kernel" or leaf.ndim != 5:
            return leaf
        own = leaf[-1]
        if "time_conv" in names:  # [1, 1, in, out], out being in, or twice that where frames double
            own = jnp.tile(jnp.eye(own.shape[-2]), own.shape[-1] // own.shape[-2])[None, None]
        return jnp.zeros_like(leaf).at[-1].set(own)

    params = jax.tree_util.tree_map_with_path(start, params)
    moments = params["moments"]
    channels = moments["bias"].size // 2
    return params | {"moments": moments | {"bias": moments["bias"].at[channels:].set(SURE)}}


def centred(pixels: UInt8[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Pixels 0..255 as -1..1."""
    return pixels.astype(jnp.float32) / 127.5 - 1


def open_source(config: VAETrainConfig) -> CropSource:
    """The crops a run trains on. Raises MediaError, ConfigError."""
    if config.clips is None:
        raise ConfigError("--clips CLIPS is needed: `python -m stableavatar_jax.data build` makes one")
    return CropSource(ClipDataset(config.clips), config.crop, Tally(config.on_bad))


def open_data(config: VAETrainConfig, *, host: int = 0, hosts: int = 1) -> CheckpointableIterator:
    """Endless batches of crops. Raises MediaError, DataError, ConfigError."""
    return open_batches(open_source(config), batch=config.batch, seed=config.seed, host=host, hosts=hosts)


def export(config: VAETrainConfig, output: Path) -> tuple[int, None]:
    """Write the best checkpoint's average as part of a model directory, with the spread of its latents; return the
    checkpoint's step. Raises TrainingError, ConfigError, MediaError, CheckpointError.
    """
    run = prepare(config)
    state = best_state(run)
    params = (state.ema or state.params)["vae"]
    mean, std = latent_spread(run.model["vae"], params, config)
    vae = dataclasses.replace(config.model.vae, latents_mean=mean, latents_std=std)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, vae=vae))
    write_parts(output, config, {"vae": params})
    return int(state.step), None


def latent_spread(
    vae: VAE, params: Params, config: VAETrainConfig, clips: int = 256
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each raw latent channel over a crop of up to so many of the clips."""
    source = open_source(config)
    apply: Any = vae.apply
    encode = jax.jit(lambda video: apply({"params": params}, centred(video), method="encode")[0])
    chosen = np.linspace(0, len(source.numbers) - 1, min(clips, len(source.numbers))).astype(int)
    latents = np.concatenate([
        np.asarray(encode(source.read(int(item), np.random.default_rng((config.seed, int(item))))["video"][None]))
        for item in chosen
    ])  # fmt: skip
    axes = (0, 1, 2, 3)
    return _values(latents.mean(axes)), _values(np.maximum(latents.std(axes), 1e-3))


def _values(array: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(x), 4) for x in array)
