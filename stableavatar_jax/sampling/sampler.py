"""Conditions to latents: the guided velocity of the transformer, and the loop over steps and windows."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.checkpoint import load_part
from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.flow import frame_noise
from stableavatar_jax.diffusion.guidance import Guidance, combine
from stableavatar_jax.diffusion.windows import VelocityFn, WindowPlan, make_denoise
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.models import lora
from stableavatar_jax.models.audio_adapter import AudioSlots
from stableavatar_jax.models.dit import Branches, Context, DiT
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.shapes import Array, Float

TEXTS = {"prompt": 0, "negative": 1}
AUDIOS = {"sound": 0, "silence": 1, "dropped": None}

Report = Callable[[int, int, Array], None]


class Shared(NamedTuple):
    """What all windows of a video share, made once."""

    params: Any
    context: Context
    reference: Float[Array, "1 F H W Y"]
    silence: AudioSlots
    """Slots of silence, `[1 F n D]`, for the branches that hear nothing."""


def make_velocity(dit: DiT, guidance: Guidance) -> VelocityFn:
    """The guided velocity of R windows: `velocity(shared, sound [R F n D], z [R F H W C], t [R])`."""
    branches: Branches = tuple((TEXTS[b.text], AUDIOS[b.audio]) for b in guidance.branches)
    silent = any(audio == AUDIOS["silence"] for _, audio in branches)

    def velocity(shared: Shared, sound: Array, z: Array, t: Array) -> Array:
        tokens = sound[:, None]
        if silent:
            silence = jnp.broadcast_to(shared.silence.tokens, sound.shape)
            tokens = jnp.stack([sound, silence], 1)
        v: Any = dit.apply(
            {"params": shared.params}, z.astype(dit.config.dtype), t, shared.reference, shared.context,
            AudioSlots(tokens, shared.silence.mask), branches=branches, method="velocity",
        )  # fmt: skip
        return combine(v, guidance)

    return velocity


def prepare(dit: DiT, params: Any, conditions: Conditions) -> tuple[Shared, Float[Array, "windows F n D"]]:
    """Everything about the conditions that does not change from step to step: the shared part, and each window's."""
    dtype, frames = dit.config.dtype, len(conditions.reference)

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def context(params, text, mask, image):
        return dit.apply({"params": params}, text.astype(dtype), mask, image.astype(dtype), method="context")

    @jax.jit
    def slots(params, audio):
        return dit.apply({"params": params}, audio.astype(dtype), frames, method="slots")

    shared = Shared(
        params=params,
        context=context(params, conditions.text[None], conditions.text_mask[None], conditions.image[None]),
        reference=jnp.asarray(conditions.reference, dtype)[None],
        silence=slots(params, np.zeros_like(conditions.audio[:1])),
    )
    return shared, jnp.concatenate([slots(params, audio[None]).tokens for audio in conditions.audio])


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
