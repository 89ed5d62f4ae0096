"""Validation videos: the weights as they stand, on one picture and one recording, every so many steps."""

import dataclasses
from typing import Any

import jax
import numpy as np

from stableavatar_jax import hosts
from stableavatar_jax.config import from_json
from stableavatar_jax.models.avatar import part, settled
from stableavatar_jax.sampling.avatar import open_avatar
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.sampling.defaults import DEFAULTS_FILE, SamplingDefaults, applied
from stableavatar_jax.sampling.job import open_job
from stableavatar_jax.sampling.video import write
from stableavatar_jax.training.logs import say
from stableavatar_jax.training.loop import Validate
from stableavatar_jax.training.run import Run
from stableavatar_jax.training.state import TrainState, join, merged


def make_validate(run: Run) -> Validate:
    """What the loop calls to see what the weights have learned: writes `RUN/validation/STEP.mp4`.

    Picture and recording are encoded here, once, and the encoders freed. Raises Mistake for files or sizes that
    `sample.py` would refuse too.
    """
    config, asked_for = run.config, wanted(run)
    avatar = open_avatar(asked_for)
    avatar.mesh = run.mesh if len(run.devices) > 1 else None  # the weights are there
    job = open_job(asked_for)
    job = dataclasses.replace(job, conditions=avatar.conditions([job], sound=True)[0])
    dit: Any = part(avatar.model, "dit", settled(avatar.model, "dit", jax.devices()[0], config.dtype))

    def validate(step: int, state: TrainState) -> None:
        avatar.transformer = dit, merged(join(state.ema or state.params, state.frozen))
        latents = np.concatenate(list(avatar.latents(job)))
        path = config.run_dir / "validation" / f"{step}.mp4"
        if hosts.is_first():
            path.parent.mkdir(parents=True, exist_ok=True)
            finished = dataclasses.replace(job, latents=latents)
            write(path, finished, avatar, sound=asked_for.inputs.audio, crf=asked_for.keeping.crf)
        say(f"validation at step {step}: {path}")

    return validate


def wanted(run: Run) -> SampleConfig:
    """The job of a validation video: as the model and its data are sampled (`Run.sampling`), with the options given."""
    config = run.config
    told = from_json(SamplingDefaults, dict(run.sampling), file=config.run_dir / DEFAULTS_FILE)
    usual = applied(SampleConfig(model=config.model), told)
    weights = {"checkpoint": config.checkpoint, "random_weights": config.checkpoint is None, "dtype": config.dtype}
    usually = {"seed": config.seed} | ({} if usual.denoising.fewer.noise_levels else {"steps": 20})
    return change(usual, **(usually | weights | config.validation.given()))
