"""The guided velocity of a window: the branches of guidance folded into rows of the transformer's batch."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion.guidance import Guidance, combine
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.models.audio_adapter import AudioSlots
from stableavatar_jax.models.dit import Context, DiT, Embedded
from stableavatar_jax.sampling.program import VelocityFn
from stableavatar_jax.shapes import Array, Float

TEXTS = {"prompt": 0, "negative": 1}
AUDIOS = {"sound": 0, "silence": 1, "dropped": None}

Branches = tuple[tuple[int, int | None], ...]
"""For every guidance branch: which text of the context, which audio (None: refined audio is zero)."""


class Shared(NamedTuple):
    """What all windows of a video share, made once."""

    params: Any
    context: Context
    reference: Float[Array, "1 F H W Y"]
    silence: AudioSlots
    """Slots of silence, `[1 F n D]`, for the branches without sound."""


def make_velocity(dit: DiT, guidance: Guidance) -> VelocityFn:
    """The guided velocity of R windows: `velocity(shared, sound [R F n D], z [R F H W C], t [R])`."""
    branches: Branches = tuple((TEXTS[b.text], AUDIOS[b.audio]) for b in guidance.branches)

    def velocity(shared: Shared, sound: Array, z: Array, t: Array) -> Array:
        z = z.astype(dit.compute.dtype)
        v: Any = dit.apply({"params": shared.params}, shared, sound, z, t, branches, method=evaluate)
        return combine(v, guidance)

    return velocity


def evaluate(
    dit: DiT, shared: Shared, sound: Float[Array, "R F n D"], z: Float[Array, "R F H W C"], t: Float[Array, "R"],
    branches: Branches,
) -> Float[Array, "R K F H W C"]:  # fmt: skip
    """The velocity of every branch: rows of one batch, which share the patches, the embedded noise level and the
    refined audio of their window.
    """
    embedded = dit.embed(z, t, shared.reference)
    audio = _refine(dit, shared, sound, embedded, [audio for _, audio in branches])
    rows = jax.tree.map(lambda a: jnp.repeat(a, len(branches), 0), embedded)
    texts = jnp.tile(jnp.asarray([text for text, _ in branches]), len(z))
    x = dit.run_blocks(rows, audio, shared.context, texts=texts, lengths=shared.silence.lengths)
    return rearrange(dit.read_out(x, rows.e), "(R K) F H W C -> R K F H W C", K=len(branches))


def _refine(
    dit: DiT, shared: Shared, sound: Float[Array, "R F n D"], embedded: Embedded, audios: list[int | None]
) -> Float[Array, "RK F n D"]:
    """Refined audio of every branch. The adapter runs once, on what the branches name, side by side."""
    given = {AUDIOS["sound"]: sound, AUDIOS["silence"]: jnp.broadcast_to(shared.silence.tokens, sound.shape)}
    used = sorted({audio for audio in audios if audio is not None})
    refined: dict[int | None, Array] = {None: jnp.zeros_like(sound)}
    if used:
        out = dit.refine(jnp.concatenate([given[audio] for audio in used], 2), embedded)
        refined |= dict(zip(used, jnp.split(out, len(used), 2), strict=True))
    return rearrange([refined[audio] for audio in audios], "K R F n D -> (R K) F n D")


def prepare(dit: DiT, params: Any, conditions: Conditions) -> tuple[Shared, Float[Array, "windows F n D"]]:
    """Everything about the conditions that does not change from step to step: the shared part, and each window's."""
    context, slots = _programs(dit, len(conditions.reference))
    images = np.broadcast_to(conditions.image, (len(conditions.text), *conditions.image.shape))
    shared = Shared(
        params=params,
        context=context(params, conditions.text, conditions.text_mask, images),
        reference=jnp.asarray(conditions.reference, dit.compute.dtype)[None],
        silence=slots(params, np.zeros_like(conditions.audio[:1])),
    )
    return shared, jnp.concatenate([slots(params, audio[None]).tokens for audio in conditions.audio])


@functools.lru_cache(maxsize=16)
def _programs(dit: DiT, frames: int) -> tuple[Callable[..., Context], Callable[..., AudioSlots]]:
    """Keys and values of text and picture, and the slots of a window's sound, jitted once for equal networks."""
    dtype, apply = dit.compute.dtype, cast(Any, dit.apply)

    def context(params: Any, text: Array, mask: Array, image: Array) -> Context:
        return apply({"params": params}, text.astype(dtype), mask, image.astype(dtype), method="context")

    def slots(params: Any, audio: Array) -> AudioSlots:
        return apply({"params": params}, audio.astype(dtype), frames, method="slots")

    return jax.jit(context, compiler_options=compiler_options(dit.compute.platform)), jax.jit(slots)
