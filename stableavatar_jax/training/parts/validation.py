"""Validation videos: the weights as they stand, on one picture and one recording, every so many steps."""

import dataclasses
from typing import Any

import jax
import numpy as np

from stableavatar_jax import hosts
from stableavatar_jax.models.avatar import part, settled
from stableavatar_jax.sampling.avatar import open_avatar
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.sampling.job import open_job
from stableavatar_jax.sampling.video import write
from stableavatar_jax.training.loop import Validate
from stableavatar_jax.training.run import Run
from stableavatar_jax.training.state import TrainState, join, merged


def make_validate(run: Run) -> Validate:
    """What the loop calls to see what the weights have learned: writes `RUN/validation/STEP.mp4`.

    Picture and recording are encoded here, once, and the encoders freed. Raises ValueError for files or sizes that
    `sample.py` would refuse too.
    """
    config, asked = run.config, run.config.validation
    asked_for = change(
        SampleConfig(model=config.model), checkpoint=config.checkpoint, random_weights=config.checkpoint is None,
        image=asked.image, audio=asked.audio, prompt=asked.prompt, height=asked.height, width=asked.width,
        steps=asked.steps, seed=config.seed, dtype=config.dtype,
    )  # fmt: skip
    avatar = open_avatar(asked_for)
    job = open_job(asked_for)
    job = dataclasses.replace(job, conditions=avatar.conditions(job))
    dit: Any = part(avatar.model, "dit", settled(avatar.model, "dit", jax.devices()[0], config.dtype))

    def validate(step: int, state: TrainState) -> None:
        avatar.transformer = dit, merged(join(state.ema or state.params, state.frozen))
        with run.on_mesh():
            latents = np.concatenate(list(avatar.latents(job)))
        if hosts.is_first():
            path = config.run_dir / "validation" / f"{step}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, dataclasses.replace(job, latents=latents), avatar, sound=asked.audio)

    return validate
