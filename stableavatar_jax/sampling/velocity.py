"""The guided velocity of a window: the branches of guidance folded into rows of the transformer's batch."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.sharding import Mesh

from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion.guidance import Guidance, combine
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.models.audio_adapter import AudioSlots
from stableavatar_jax.models.dit import Context, DiT, Embedded
from stableavatar_jax.sampling.program import Own, Velocity, without_memory
from stableavatar_jax.shapes import Array, Float
from stableavatar_jax.sharding import rows_at_once, traced_for

TEXTS = {"prompt": 0, "negative": 1}
AUDIOS = {"sound": 0, "silence": 1, "dropped": None}

Branches = tuple[tuple[int, int | None], ...]
"""For every guidance branch: which text of the context, which audio (None: refined audio is zero)."""


class Shared(NamedTuple):
    """What all windows of V videos share, made once."""

    params: Any
    context: Context
    """Of the texts of each video, one video's behind the other's."""
    reference: Float[Array, "V F H W Y"]
    silence: AudioSlots
    """Slots of silence, `[1 F n D]`, for the branches without sound."""


def make_velocity(dit: DiT, guidance: Guidance, mesh: Mesh | None = None) -> Velocity:
    """The guided velocity of R windows; `shared` is a `Shared`, the sound of a window its slots `[F n D]`.

    On a mesh the branches of all windows are dealt to the devices, which need nothing of one another.
    """
    branches: Branches = tuple((TEXTS[b.text], AUDIOS[b.audio]) for b in guidance.branches)
    devices = rows_at_once(mesh) if mesh else 1

    def velocity(shared: Shared, own: Own, z: Array, t: Array) -> Array:
        z = z.astype(dit.compute.dtype)
        with traced_for(mesh):
            v: Any = dit.apply({"params": shared.params}, shared, own, z, t, branches, devices, method=evaluate)
            v = combine(v, guidance)
            return jax.lax.with_sharding_constraint(v, jax.P()) if mesh else v

    return without_memory(velocity)


def evaluate(
    dit: DiT, shared: Shared, own: Own, z: Float[Array, "R F H W C"], t: Float[Array, "R"], branches: Branches,
    devices: int = 1,
) -> Float[Array, "R K F H W C"]:  # fmt: skip
    """The velocity of every branch: rows of one batch, which share the patches, the embedded noise level and the
    refined audio of their window. The batch is filled up to a multiple of the devices that rows are dealt to.
    """
    texts: Any = jnp.asarray([text for text, _ in branches])
    reference, videos = shared.reference, len(shared.reference)
    if videos == 1:
        texts = jnp.tile(texts, len(z))
    else:
        reference = reference[own.video]
        of_a_video = shared.context.text[0].shape[1] // videos
        texts = (own.video[:, None] * of_a_video + texts).reshape(-1)
    embedded = dit.embed(z, t, reference)
    audio = _refine(dit, shared, own.sound, embedded, [audio for _, audio in branches])
    rows = jax.tree.map(lambda a: jnp.repeat(a, len(branches), 0), embedded)
    missing = -len(texts) % devices
    fill = lambda a: jnp.concatenate([a, jnp.repeat(a[:1], missing, 0)])  # noqa: E731
    rows, audio, texts = jax.tree.map(fill, (rows, audio, texts)) if missing else (rows, audio, texts)
    x = dit.run_blocks(rows, audio, shared.context, texts=texts, lengths=shared.silence.lengths)
    v = dit.read_out(x, rows.e)[: len(z) * len(branches)]
    return rearrange(v, "(R K) F H W C -> R K F H W C", K=len(branches))


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


def share(dit: DiT, params: Any, conditions: Conditions, audio_tokens: int) -> Shared:
    """Everything about a video that does not change from step to step, but for its sound; `audio_tokens` are those of
    a window.
    """
    context, sound = _programs(dit, len(conditions.reference))
    images = np.broadcast_to(conditions.image, (len(conditions.text), *conditions.image.shape))
    silence = np.zeros((audio_tokens, dit.config.adapter.audio_dim), np.float32)
    return Shared(
        params=params,
        context=context(params, conditions.text, conditions.text_mask, images),
        reference=jnp.asarray(conditions.reference, dit.compute.dtype)[None],
        silence=sound(params, silence[None]),
    )


def slots(dit: DiT, params: Any, features: Float[np.ndarray, "A V"], frames: int) -> Float[Array, "F n D"]:
    """The sound of a window of so many latent frames, as the velocity reads it, from its features."""
    return _programs(dit, frames)[1](params, features[None]).tokens[0]


def join(videos: Sequence[Shared]) -> Shared:
    """What several videos share, a place for each."""
    if len(videos) == 1:
        return videos[0]
    contexts = jax.tree.map(lambda *each: jnp.concatenate(each, 1), *(video.context for video in videos))
    references = jnp.concatenate([video.reference for video in videos])
    return videos[0]._replace(context=contexts, reference=references)


@functools.lru_cache(maxsize=16)
def _programs(dit: DiT, frames: int) -> tuple[Callable[..., Context], Callable[..., AudioSlots]]:
    """Keys and values of text and picture, and the slots of a window's sound, jitted once for equal networks."""
    dtype, apply = dit.compute.dtype, cast(Any, dit.apply)

    def context(params: Any, text: Array, mask: Array, image: Array) -> Context:
        return apply({"params": params}, text.astype(dtype), mask, image.astype(dtype), method="context")

    def slots(params: Any, audio: Array) -> AudioSlots:
        return apply({"params": params}, audio.astype(dtype), frames, method="slots")

    return jax.jit(context, compiler_options=compiler_options(dit.compute.platform)), jax.jit(slots)
