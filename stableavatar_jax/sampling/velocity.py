"""The guided velocity of a window: the branches of guidance folded into rows of the transformer's batch."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion.guidance import Guidance, combine
from stableavatar_jax.diffusion.windows import VelocityFn
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.models.audio_adapter import AudioSlots
from stableavatar_jax.models.dit import Branches, Context, DiT
from stableavatar_jax.shapes import Array, Float

TEXTS = {"prompt": 0, "negative": 1}
AUDIOS = {"sound": 0, "silence": 1, "dropped": None}


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
