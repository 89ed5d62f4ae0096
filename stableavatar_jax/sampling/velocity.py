"""The guided velocity of a window: the branches of guidance folded into rows of the transformer's batch."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion.guidance import Branch, Guidance
from stableavatar_jax.diffusion.reuse import Schedule
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.models.audio_adapter import AudioSlots
from stableavatar_jax.models.dit import Context, DiT, Embedded
from stableavatar_jax.sampling.guided import Network, guided
from stableavatar_jax.sampling.program import Apply, Own, Velocity
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


def make_velocity(
    dit: DiT, guidance: Guidance, mesh: Mesh | None = None, schedule: Schedule = (), reuse: bool = False
) -> Velocity:
    """The guided velocity of R windows (`guided`); `shared` is a `Shared`, the sound of a window its slots `[F n D]`.

    On a mesh the branches of all windows are dealt to the devices, which need nothing of one another.
    """
    return on(mesh, guided(network(dit, mesh), guidance, schedule, reuse=reuse))


def on(mesh: Mesh | None, velocity: Velocity) -> Velocity:
    """A velocity on a mesh; every device has the whole of it."""
    if mesh is None:
        return velocity

    def on_mesh(apply: Apply, shared: Any, own: Any, z: Array, t: Array, memory: Any) -> tuple[Array, Any]:
        with traced_for(mesh):
            v, memory = apply(shared, own, z, t, memory)
            return jax.lax.with_sharding_constraint(v, place), memory

    place = NamedSharding(mesh, PartitionSpec())
    kinds = tuple(functools.partial(on_mesh, apply) for apply in velocity.kinds)
    return dataclasses.replace(velocity, kinds=kinds, place=place)


def network(dit: DiT, mesh: Mesh | None = None) -> Network:
    """The transformer as the network of a velocity."""
    devices = rows_at_once(mesh) if mesh else 1

    def embed(shared: Shared, own: Own, z: Array, t: Array) -> Any:
        reference = shared.reference if len(shared.reference) == 1 else shared.reference[own.video]
        return dit.apply({"params": shared.params}, z.astype(dit.compute.dtype), t, reference, method="embed")

    def blocks(shared: Shared, own: Own, embedded: Embedded, branches: Sequence[Branch]) -> Any:
        told: Branches = tuple((TEXTS[b.text], AUDIOS[b.audio]) for b in branches)
        return dit.apply({"params": shared.params}, shared, own, embedded, told, devices, method=run_branches)

    def read_out(shared: Shared, embedded: Embedded, tokens: Float[Array, "R K f h w D"]) -> Any:
        (x, e), count = _rows(embedded, tokens, devices), tokens.shape[1]
        v: Any = dit.apply({"params": shared.params}, x, e, method="read_out")
        return rearrange(v[: len(tokens) * count], "(R K) F H W C -> R K F H W C", K=count)

    def room(z: Float[Array, "R F H W C"], branches: int) -> Float[Array, "R K f h w D"]:
        grid = (size // patch for size, patch in zip(z.shape[1:4], dit.config.patch, strict=True))
        return jnp.zeros((len(z), branches, *grid, dit.config.dim), dit.compute.dtype)

    def place(x: Float[Array, "R K f h w D"]) -> Float[Array, "R K f h w D"]:
        axes = None if mesh is None or dit.config.dim % devices else ("data", "fsdp")
        return x if mesh is None else jax.lax.with_sharding_constraint(x, NamedSharding(mesh, jax.P(*[None] * 5, axes)))

    return Network(embed, blocks, read_out, room, place)


def run_branches(
    dit: DiT, shared: Shared, own: Own, embedded: Embedded, branches: Branches, devices: int = 1
) -> Float[Array, "R K f h w D"]:
    """The tokens of every branch behind the blocks: rows of one batch, which share the patches, the embedded noise
    level and the refined audio of their window. The batch is filled up to a multiple of the devices that rows are dealt
    to.
    """
    windows, count = len(embedded.x), len(branches)
    texts: Any = jnp.tile(jnp.asarray([text for text, _ in branches]), windows)
    if (videos := len(shared.reference)) > 1:
        of_a_video = shared.context.text[0].shape[1] // videos
        texts = jnp.repeat(own.video, count) * of_a_video + texts
    audio = _refine(dit, shared, own.sound, embedded, [audio for _, audio in branches])
    rows = jax.tree.map(lambda a: jnp.repeat(a, count, 0), embedded)
    rows, audio, texts = _filled((rows, audio, texts), devices)
    x = dit.run_blocks(rows, audio, shared.context, texts=texts, lengths=shared.silence.lengths)
    return rearrange(x[: windows * count], "(R K) f h w D -> R K f h w D", K=count)


def _rows(embedded: Embedded, tokens: Float[Array, "R K f h w D"], devices: int) -> tuple[Array, Array]:
    """Tokens of all branches and their noise levels as rows."""
    x = rearrange(tokens, "R K f h w D -> (R K) f h w D")
    return _filled((x, jnp.repeat(embedded.e, tokens.shape[1], 0)), devices)


def _filled(rows: Any, devices: int) -> Any:
    """Rows filled up to a multiple of the devices."""
    missing = -len(jax.tree.leaves(rows)[0]) % devices
    fill = lambda a: jnp.concatenate([a, jnp.repeat(a[:1], missing, 0)])  # noqa: E731
    return jax.tree.map(fill, rows) if missing else rows


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
