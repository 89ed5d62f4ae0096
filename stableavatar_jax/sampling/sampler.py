"""Conditions to latents: the loop over steps and windows."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from stableavatar_jax.checkpoint import load_part
from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.flow import frame_noise
from stableavatar_jax.diffusion.windows import WindowPlan, make_denoise
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.models import lora
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.sampling.velocity import make_velocity, prepare
from stableavatar_jax.shapes import Array, Float

Report = Callable[[int, int, Array], None]


def load_transformer(config: SampleConfig, loras: Sequence[tuple[Any, float]] = ()) -> tuple[DiT, Any]:
    """The transformer and its weights, LoRAs (trees and scales) merged in; to be called when no encoder is left."""
    dit, params = load_part(config.checkpoint, config.model, "dit", dtype=config.dtype, seed=config.seed)
    for tree, scale in loras:
        params = jax.jit(functools.partial(lora.merge, scale=scale), donate_argnums=0)(params, tree)
    return dit, params


def denoise(
    config: SampleConfig, dit: DiT, params: Any, conditions: Conditions, plan: WindowPlan, report: Report | None = None
) -> Float[np.ndarray, "N H W C"]:
    """Finished latents of the whole video, float32.

    `report(step, windows done, finite)` is told of every call of the denoising program.
    """
    shared, sound = prepare(dit, params, conditions)
    rows, columns = config.latent_size()
    shape = (rows, columns, dit.config.out_channels)
    z = frame_noise(jax.random.key(config.seed), 0, plan.padded, shape)
    solver = solvers.solver(config.solver, config.steps, config.shift)
    run = make_denoise(make_velocity(dit, config.guided()), solver, config.windows)
    return np.asarray(run(z, shared, sound, report)[: plan.frames])
