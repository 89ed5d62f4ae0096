"""Training the video autoencoder on crops of clips: its run, data, validation and export."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from stableavatar_jax.data.clips.clip import Clip
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.iterator import CheckpointableIterator, open_batches
from stableavatar_jax.data.sources.crops import CropSource, decode
from stableavatar_jax.frames import FRAMES_PER_LATENT, PIXELS_PER_LATENT, evenly
from stableavatar_jax.media import as_bytes, centred
from stableavatar_jax.models.compute import settle
from stableavatar_jax.models.vae import VAE, sample
from stableavatar_jax.shapes import Array, Bool, Float, UInt8
from stableavatar_jax.training.export import Exported
from stableavatar_jax.training.logs import note
from stableavatar_jax.training.loop import Validate
from stableavatar_jax.training.parts.config import VAETrainConfig
from stableavatar_jax.training.parts.networks import Params, check_parts, open_clip_set, prepare_parts
from stableavatar_jax.training.parts.part import Part
from stableavatar_jax.training.parts.vae_loss import decibels, reconstruction_loss
from stableavatar_jax.training.run import Run
from stableavatar_jax.training.state import TrainState, average
from stableavatar_jax.whole import whole

SURE = -6.0  # log variance of a fresh VAE's latents: at 0 the noise would be as large as they are


def network(config: VAETrainConfig) -> VAE:
    """The autoencoder as it is trained: its latents are the raw ones, which are normalised only when it is exported."""
    vae = config.model.vae
    raw = dataclasses.replace(vae, latents_mean=(0.0,) * vae.z_dim, latents_std=(1.0,) * vae.z_dim)
    return VAE(raw, settle(jax.devices()[0], config.dtype, param_dtype="float32"))


def prepare(config: VAETrainConfig) -> Run:
    """The run of a config."""
    vae = network(config)
    apply: Any = vae.apply

    def loss(params: Params, batch: Mapping[str, Array], key: Array) -> tuple[Float[Array, ""], dict[str, Array]]:
        video = centred(batch["video"])
        mean, logvar, _ = apply({"params": params["vae"]}, video, method="encode")
        if config.train == "decoder":  # nothing flows back: the encoder costs a forward pass, and stays
            mean, logvar = jax.lax.stop_gradient((mean, logvar))
        draws = jax.random.split(key)
        z = sample(draws[0], mean, logvar)
        z += config.noise * jax.lax.stop_gradient(mean.std()) * jax.random.normal(draws[1], z.shape)
        given, _ = apply({"params": params["vae"]}, z, method="decode_unclipped")
        return reconstruction_loss(video, given, mean, logvar, batch["face_mask"], batch["lip_mask"], config.loss)

    return prepare_parts(config, {"vae": vae}, loss, start=lambda params: {"vae": one_frame_start(params["vae"])})


def one_frame_start(params: Params) -> Params:
    """Fresh weights as if every frame were a picture: convolutions read their own frame alone, and time is halved by
    taking the later of two frames and doubled by repeating it. What is then learned from pictures holds for videos.

    Kernels get unit gain, which PyTorch's way of drawing them lacks. The latents begin nearly certain (`SURE`).
    """

    def start(path, leaf):
        names = [getattr(key, "key", None) for key in path]
        if names[-1] != "kernel" or leaf.ndim < 4:
            return leaf
        if leaf.ndim == 4:  # a convolution within frames
            return leaf * math.sqrt(3)
        own = leaf[-1] * math.sqrt(3 * leaf.shape[0])
        if "time_conv" in names:  # [1, 1, in, out], out being in, or twice that where frames double
            own = jnp.tile(jnp.eye(own.shape[-2]), own.shape[-1] // own.shape[-2])[None, None]
        return jnp.zeros_like(leaf).at[-1].set(own)

    params = jax.tree_util.tree_map_with_path(start, params)
    moments = params["moments"]
    channels = moments["bias"].size // 2
    return params | {"moments": moments | {"bias": moments["bias"].at[channels:].set(SURE)}}


def open_source(config: VAETrainConfig) -> CropSource:
    """The crops a run trains on. Raises Mistake."""
    return CropSource(open_clip_set(config.clips), config.crop, Tally(config.on_bad))


def open_data(config: VAETrainConfig, *, host: int = 0, hosts: int = 1) -> CheckpointableIterator:
    """Endless batches of crops. Raises Mistake."""
    return open_batches(open_source(config), batch=config.batch, seed=config.seed, host=host, hosts=hosts)


SHOWN, MEASURED = 16, 256
"""Clips that a validation gives back, and over whose latents the spread is measured."""


def make_validate(run: Run) -> Validate:
    """What gives back whole pictures of the held-out clips with the average: `RUN/validation.csv` has the measures,
    `RUN/validation/STEP.png` the last frame of each clip above what was made of it. Raises Mistake.
    """
    config: VAETrainConfig = run.config
    apply: Any = run.model["vae"].apply
    clips = open_clip_set(config.held_out or config.clips)
    held_out = [middle(clips[number], config.crop.frames) for number in evenly(SHOWN, len(clips))]

    @jax.jit
    def give_back(params: Params, video: Array) -> tuple[Array, Array]:
        """Pixels 0..255, and the squared error of those in -1..1."""
        mean, _, _ = apply({"params": params["vae"]}, centred(video), method="encode")
        given, _ = apply({"params": params["vae"]}, mean, method="decode")
        return as_bytes(given), jnp.square(given - centred(video))

    def validate(step: int, state: TrainState) -> None:
        pairs = [jax.device_get(give_back(average(state), video[None])) for video, _ in held_out]
        lips = [error[0][mask] for (_, error), (_, mask) in zip(pairs, held_out, strict=True)]
        errors = {"psnr": np.mean([error.mean() for _, error in pairs]), "lip_psnr": np.concatenate(lips).mean()}
        measured = {name: float(decibels(jnp.float32(error))) for name, error in errors.items()}
        note(config.run_dir / "validation.csv", step, measured)
        columns = [np.concatenate([video[-1], given[0, -1]])
                   for (video, _), (given, _) in zip(held_out, pairs, strict=True)]
        path = config.run_dir / "validation" / f"{step}.png"
        path.parent.mkdir(exist_ok=True)
        rows = min(map(len, columns))
        with whole(path) as partial:
            Image.fromarray(np.concatenate([column[:rows] for column in columns], axis=1)).save(partial, format="png")

    return validate


def middle(clip: Clip, frames: int) -> tuple[UInt8[np.ndarray, "T H W 3"], Bool[np.ndarray, "T H W"]]:
    """Frames in the middle of a clip, cut to whole latents, and their lips."""
    frames = min(frames, 1 + (clip.frames - 1) // FRAMES_PER_LATENT * FRAMES_PER_LATENT)
    pixels, _, lips = decode(clip, (clip.frames - frames) // 2, frames)
    height, width = (size // PIXELS_PER_LATENT * PIXELS_PER_LATENT for size in pixels.shape[1:3])
    return pixels[:, :height, :width], np.unpackbits(lips, axis=-1).astype(bool)[:, :height, :width]


def exported(run: Run, state: TrainState) -> Exported:
    """The average, and the spread of its latents in the config: what an exported autoencoder gives is normalised."""
    config, params = run.config, average(state)["vae"]
    model = config.model
    if config.train == "all":
        mean, std = latent_spread(run.model["vae"], params, config)
        model = dataclasses.replace(model, vae=dataclasses.replace(model.vae, latents_mean=mean, latents_std=std))
    return Exported({"vae": params}, model)


def latent_spread(vae: VAE, params: Params, config: VAETrainConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each raw latent channel over whole pictures of up to `MEASURED` clips."""
    apply: Any = vae.apply
    encode = jax.jit(lambda video: apply({"params": params}, centred(video), method="encode")[0])
    clips = open_clip_set(config.clips)
    videos = (middle(clips[number], config.crop.frames)[0] for number in evenly(MEASURED, len(clips)))
    latents = np.concatenate([np.asarray(encode(video[None])).reshape(-1, vae.config.z_dim) for video in videos])
    return _values(latents.mean(0)), _values(np.maximum(latents.std(0), 1e-3))


def _values(array: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(x), 4) for x in array)


VAE_PART = Part(
    names=("vae",),
    check=lambda config: check_parts(config, ("vae",)),
    prepare=prepare,
    open_data=open_data,
    make_validate=make_validate,
    exported=exported,
)
