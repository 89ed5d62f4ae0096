"""Windows of clips to what a training step reads: once, when records are precomputed, or online in every step."""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.checkpoint import load_part
from stableavatar_jax.config import read_config
from stableavatar_jax.data.clips.clip import PROMPTS
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.iterator import CheckpointableIterator, open_batches
from stableavatar_jax.data.order import Batch
from stableavatar_jax.encoding.encoders import Encoders
from stableavatar_jax.encoding.windows import ClipSource
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.shapes import Array, Float, UInt8
from stableavatar_jax.training.config import TrainConfig

TEXT_LEN = 226
"""Tokens a prompt is cut to in training, as released."""

Posterior = tuple[Float[np.ndarray, "B F h w C"], Float[np.ndarray, "B F h w C"]]
"""Mean and log variance of latents."""


class WindowEncoder:
    """The frozen encoders of training, loaded once. The text encoder reads all prompts and is freed."""

    def __init__(
        self,
        model: AvatarConfig,
        directory: Path | None = None,
        *,
        prompts: Sequence[str] = tuple(PROMPTS.values()),
        dtype: str = "float32",
        text_dtype: str = "bfloat16",
        seed: int = 0,
    ):
        """`prompts` are what the numbers in batches count. Without a model directory the weights are drawn from the
        seed: to try the way of the data."""
        dit = dataclasses.replace(model.dit, text_len=min(TEXT_LEN, model.dit.text_len))
        encoders = Encoders(dataclasses.replace(model, dit=dit), directory, text_dtype=text_dtype, seed=seed)
        text, mask = encoders.text(list(prompts))
        length = int(mask.sum(1).max())  # one length for all, so that any two records fit into one batch
        self.text, self.text_mask = text[:, :length], mask[:, :length]
        load = lambda name: load_part(directory, model, name, dtype=dtype, seed=seed)  # noqa: E731
        (vae, self._vae), (clip, self._clip), (wav2vec2, self._wav2vec2) = map(load, ("vae", "clip_vision", "wav2vec2"))
        self._step, self._again = vae.config.time_factor, model.after_picture == "again"
        self._encode = jax.jit(
            lambda params, pixels, cache: vae.apply({"params": params}, pixels, cache, method="encode"),
            donate_argnums=2,
        )
        self._see = jax.jit(lambda params, pixels: clip.apply({"params": params}, _centred(pixels)))
        self._hear = jax.jit(lambda params, sound: wav2vec2.apply({"params": params}, sound))

    def __call__(self, batch: Batch) -> Batch:
        """The record fields (`records.FIELDS`, with a batch axis) of windows as `data.online` stacks them."""
        pixels = batch["pixels"]
        ends = range(1, pixels.shape[1] + 1, self._step)
        latents_mean, latents_logvar = self.posterior(
            _centred(pixels[:, max(0, end - self._step) : end]) for end in ends
        )
        reference_mean, reference_logvar = self.reference_posterior(batch["reference"], len(ends))
        return {
            "latents_mean": latents_mean,
            "latents_logvar": latents_logvar,
            "reference_mean": reference_mean,
            "reference_logvar": reference_logvar,
            "text": self.text[batch["prompt"]],
            "text_mask": self.text_mask[batch["prompt"]],
            "image": np.asarray(self._see(self._clip, batch["reference"]), np.float32),
            "audio": np.asarray(self._hear(self._wav2vec2, batch["sound"]), np.float32),
            "face_mask": batch["face_mask"],
            "lip_mask": batch["lip_mask"],
        }

    def reference_posterior(self, picture: UInt8[np.ndarray, "B H W 3"], latent_frames: int) -> Posterior:
        """Of what the transformer is shown, as in sampling (`encode_reference`): the picture, then grey or it again."""
        first = _centred(picture[:, None])
        if self._again:
            mean, logvar = self.posterior([first])
            return np.repeat(mean, latent_frames, axis=1), np.repeat(logvar, latent_frames, axis=1)
        grey = jnp.zeros((len(first), self._step, *first.shape[2:]), first.dtype)
        return self.posterior([first] + [grey] * (latent_frames - 1))

    def posterior(self, video: Iterable[Float[Array, "B _ H W 3"]]) -> Posterior:
        """Of a video, -1..1, that comes a latent frame at a time (1 picture, then 4 each), to hold little in memory."""
        means, logvars, cache = [], [], None
        for piece in video:
            mean, logvar, cache = self._encode(self._vae, piece, cache)
            means.append(np.asarray(mean))
            logvars.append(np.asarray(logvar))
        return np.concatenate(means, 1), np.concatenate(logvars, 1)


class EncodedBatches:
    """Batches of windows, each encoded when it is asked for; the place in the data is that of the windows."""

    def __init__(self, windows: CheckpointableIterator, encoder: WindowEncoder):
        self.windows, self.encoder = windows, encoder

    def __iter__(self) -> "EncodedBatches":
        return self

    def __next__(self) -> Batch:
        return self.encoder(next(self.windows))

    def get_state(self) -> dict[str, Any]:
        """What `set_state` needs to go on here, as plain JSON values."""
        return self.windows.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken. Raises Mistake where clips, batch size or seed are others."""
        self.windows.set_state(state)

    def close(self) -> None:
        """Stop reading ahead."""
        self.windows.close()


def open_clips(folder: Path, config: TrainConfig, *, host: int = 0, hosts: int = 1) -> EncodedBatches:
    """Endless batches of a clip data set as a run's options want them, with the fields of precomputed records.

    The encoders are those of the run's checkpoint and compute in float32, as `precompute` does unless told otherwise;
    each process encodes its own rows on its first device. Raises Mistake, Mistake, Mistake, Mistake.
    """
    clips = ClipSource(ClipDataset(folder), config.window, Tally(config.on_bad, config.missing_masks))
    windows = open_batches(clips, batch=config.batch, seed=config.seed, host=host, hosts=hosts)
    if config.checkpoint is None:
        logging.getLogger(__name__).warning("no --checkpoint: the encoders' weights are random, the batches are noise")
    model = read_config(config.checkpoint, AvatarConfig) if config.checkpoint else config.model
    return EncodedBatches(windows, WindowEncoder(model, config.checkpoint, prompts=clips.prompts, seed=config.seed))


def _centred(pixels: UInt8[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """Pixels 0..255 as -1..1."""
    return jnp.asarray(pixels, jnp.float32) / 127.5 - 1
