"""From windows of clips to a training step's input: once, for precomputed records, or online in every step."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.checkpoint import Parts, load_part
from stableavatar_jax.data.clips.clip import PROMPTS
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.config import ClipWindow
from stableavatar_jax.data.iterator import CheckpointableIterator, open_batches
from stableavatar_jax.data.order import Batch
from stableavatar_jax.encoding.encoders import Encoders
from stableavatar_jax.encoding.reference import LatentEncoder, reference_posterior
from stableavatar_jax.encoding.windows import ClipSource
from stableavatar_jax.media import centred
from stableavatar_jax.models.config import AvatarConfig

TEXT_LEN = 226
"""Tokens a prompt is cut to in training, as released."""


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
        report: Callable[[str], None] = lambda name: None,
    ):
        """`prompts` are what the numbers in batches count; `report` is called with each part before it is loaded.

        Without a model directory the weights are drawn from the seed, as a smoke test.
        """
        dit = dataclasses.replace(model.dit, text_len=min(TEXT_LEN, model.dit.text_len))
        parts = Parts(dataclasses.replace(model, dit=dit), directory, seed=seed)
        encoders = Encoders(parts, text_dtype, report=report)
        text, mask = encoders.text(list(prompts))
        length = int(mask.sum(1).max())  # one length for all, so that any two records fit into one batch
        self.text, self.text_mask = text[:, :length], mask[:, :length]

        def load(name: str) -> tuple[Any, Any]:
            report(name)
            return load_part(directory, model, name, dtype=dtype, seed=seed)

        vae, (clip, self._clip), (wav2vec2, self._wav2vec2) = map(load, ("vae", "clip_vision", "wav2vec2"))
        self._latents, self._after = LatentEncoder(*vae), model.after_picture
        self._image = jax.jit(lambda params, pixels: clip.apply({"params": params}, centred(pixels)))
        self._audio = jax.jit(lambda params, sound: wav2vec2.apply({"params": params}, sound))

    def __call__(self, batch: Batch) -> Batch:
        """The record fields (`records.FIELDS`, with a batch axis) of windows as `encoding.windows` stacks them."""
        pixels, step = batch["pixels"], self._latents.step
        ends = range(1, pixels.shape[1] + 1, step)
        pieces = (centred(jnp.asarray(pixels[:, max(0, end - step) : end])) for end in ends)
        latents_mean, latents_logvar = self._latents.posterior(pieces)
        reference_mean, reference_logvar = reference_posterior(
            self._latents, centred(jnp.asarray(batch["reference"])), len(ends), self._after
        )
        return {
            "latents_mean": latents_mean,
            "latents_logvar": latents_logvar,
            "reference_mean": reference_mean,
            "reference_logvar": reference_logvar,
            "text": self.text[batch["prompt"]],
            "text_mask": self.text_mask[batch["prompt"]],
            "image": np.asarray(self._image(self._clip, batch["reference"]), np.float32),
            "audio": np.asarray(self._audio(self._wav2vec2, batch["sound"]), np.float32),
            "face_mask": batch["face_mask"],
            "lip_mask": batch["lip_mask"],
        }


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


def open_clips(
    folder: Path,
    window: ClipWindow,
    model: AvatarConfig,
    directory: Path | None,
    *,
    batch: int,
    seed: int = 0,
    tally: Tally | None = None,
    host: int = 0,
    hosts: int = 1,
) -> EncodedBatches:
    """Endless batches of a clip data set, with the fields of precomputed records.

    The encoders are those of the model `directory` and compute in float32, as `precompute` does unless told otherwise;
    each process encodes its own rows on its first device. The tally says what becomes of clips that are too short or
    damaged. Raises Mistake where the data set, the batch or the encoders do not fit.
    """
    clips = ClipSource(ClipDataset(folder), window, tally)
    windows = open_batches(clips, batch=batch, seed=seed, host=host, hosts=hosts)
    if directory is None:
        logging.getLogger(__name__).warning("no --checkpoint: the encoders' weights are random, the batches are noise")
    return EncodedBatches(windows, WindowEncoder(model, directory, prompts=clips.prompts, seed=seed))
