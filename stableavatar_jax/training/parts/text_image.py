"""Training the text and the image encoder on pictures of clips and their prompts: run, data, validation and export."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.data.iterator import CheckpointableIterator, open_batches
from stableavatar_jax.data.sources.pictures import PictureSource
from stableavatar_jax.encoding.tokens import tokenize
from stableavatar_jax.frames import evenly
from stableavatar_jax.media import centred
from stableavatar_jax.models.avatar import part, settled
from stableavatar_jax.models.clip_vision import resize_bicubic
from stableavatar_jax.models.contrast import Compared, Contrast
from stableavatar_jax.shapes import Array, Float
from stableavatar_jax.training.logs import note
from stableavatar_jax.training.loop import Validate
from stableavatar_jax.training.parts.config import TextImageTrainConfig
from stableavatar_jax.training.parts.contrast_loss import contrastive_loss
from stableavatar_jax.training.parts.networks import (
    Params,
    check_parts,
    exported_parts,
    open_clip_set,
    prepare_parts,
)
from stableavatar_jax.training.parts.part import Part
from stableavatar_jax.training.run import Run
from stableavatar_jax.training.state import TrainState, average

TRAINED = "umt5", "clip_vision"


def prepare(config: TextImageTrainConfig) -> Run:
    """The run of a config."""
    model, device = config.model, jax.devices()[0]
    networks: dict[str, Any] = {
        name: part(model, name, settled(model, name, device, config.dtype, param_dtype="float32")) for name in TRAINED
    }
    networks["contrast"] = Contrast(model.clip_vision.embedding_dim, model.umt5.dim, model.clip_vision.dim)

    def loss(params: Params, batch: Mapping[str, Array], key: Array) -> tuple[Float[Array, ""], dict[str, Array]]:
        return contrastive_loss(compare(networks, params, batch), batch["ids"])

    return prepare_parts(config, networks, loss)


def compare(networks: Mapping[str, Any], params: Params, batch: Mapping[str, Array]) -> Compared:
    """Prompts and pictures of a batch, read as the transformer is given them."""
    ids, mask = batch["ids"], batch["text_mask"]
    texts = networks["umt5"].apply({"params": params["umt5"]}, ids, mask)
    pixels = centred(batch["picture"])
    pictures = networks["clip_vision"].apply({"params": params["clip_vision"]}, pixels)
    return networks["contrast"].apply({"params": params["contrast"]}, texts, mask, pictures)


def open_source(config: TextImageTrainConfig, clips: ClipDataset) -> PictureSource:
    """The pictures of clips, and their prompts as tokens. Raises Mistake where the tokenizer does not fit."""
    prompts = list(clips.prompts)
    tokens = zip(*tokenize(prompts, config.model, config.checkpoint), strict=True)
    return PictureSource(clips, config.pictures, dict(zip(prompts, tokens, strict=True)))


def open_data(config: TextImageTrainConfig, *, host: int = 0, hosts: int = 1) -> CheckpointableIterator:
    """Endless batches of pictures and prompts. Raises Mistake."""
    source = open_source(config, open_clip_set(config.clips))
    return open_batches(source, batch=config.batch, seed=config.seed, host=host, hosts=hosts)


MOST = 256
"""Clips that a validation compares."""


def make_validate(run: Run) -> Validate:
    """What finds the held-out clips' prompts by a picture of each, among those of all, with the average:
    `RUN/validation.csv`. Raises Mistake.
    """
    config: TextImageTrainConfig = run.config
    source = open_source(config, open_clip_set(config.held_out or config.clips))
    items = [source.middle(item) for item in evenly(MOST, len(source.clips))]
    held_out = {name: jnp.asarray(np.stack([item[name] for item in items])) for name in ("ids", "text_mask")}
    size = config.model.clip_vision.image_size  # clips of any size in one batch
    pictures = [resize_bicubic(jnp.asarray(item["picture"], jnp.float32)[None], size) for item in items]
    held_out["picture"] = jnp.concatenate(pictures)

    @jax.jit
    def measure(params: Params, batch: Mapping[str, Array]) -> dict[str, Array]:
        loss, measured = contrastive_loss(compare(run.model, params, batch), batch["ids"])
        return {"loss": loss, **measured}

    def validate(step: int, state: TrainState) -> None:
        measured = jax.device_get(measure(average(state), held_out))
        note(config.run_dir / "validation.csv", step, {name: float(value) for name, value in measured.items()})

    return validate


TEXT_IMAGE_PART = Part(
    names=TRAINED,
    check=lambda config: check_parts(config, TRAINED),
    prepare=prepare,
    open_data=open_data,
    make_validate=make_validate,
    exported=exported_parts(TRAINED),
)
