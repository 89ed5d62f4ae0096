"""The wavefront order on the device: what is on the line, some rows of a diagonal stepped, and the line moved on."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion import order
from stableavatar_jax.diffusion.solvers import Solver
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.sampling import memory
from stableavatar_jax.sampling.program import Own, Velocity, make_program
from stableavatar_jax.shapes import Array, Bool, Float, Int


class Front(NamedTuple):
    """What is on the line, on the device; K windows meet in a frame, S frames are a stride, M windows on the line."""

    z: Float[Array, "steps KS H W C"]
    """Latents of the window at each step, float32; its frames are the first of these."""
    kept: Float[Array, "Q steps KS H W C"]
    """What the solver keeps of them."""
    tail: Float[Array, "steps overlap H W C"]
    """What the last window at each step left to the next one."""
    sound: Float[Array, "M ..."]
    """What the windows on the line have for themselves, the oldest first."""
    memory: Any = ()
    """What the velocity remembers of the windows on the line. Each has a place of its own, which it keeps."""


class Rows(NamedTuple):
    """Micro-batches of rows; a row that is none has a step past the last."""

    step: Int[np.ndarray, "batches R"]
    window: Int[np.ndarray, "batches R"]
    live: Bool[np.ndarray, "batches R"]
    video: Int[Array | np.ndarray, "batches R"]
    place: Int[np.ndarray, "batches R"]
    """Of their memory, past the last where there is none."""
    seed: Int[np.ndarray, "batches R"]


KINDS = (np.int32, np.int32, bool, np.int32, np.int32, np.uint32)
"""Dtypes of `Rows`."""


def make_advance(
    velocity: Velocity, solver: Solver, config: WindowConfig, platform: str = "cpu", kind: int = 0
) -> Callable[..., tuple[Front, Bool[Array, "batches R"]]]:
    """Some micro-batches of a diagonal, all of steps of one kind, jitted; compiled once.

    `advance(front, rows, shared)` gives the front with these rows stepped, and whether the velocities of each were
    finite. The front is donated.
    """
    program = make_program(velocity, solver, config, kind)
    stride = config.stride
    reach = order.reach(config.window, config.overlap)

    def advance(front: Front, rows: Rows, shared: Any) -> tuple[Front, Array]:
        def batch(line: tuple[Array, Array, Array, Any], row: Rows) -> tuple[tuple[Array, Array, Array, Any], Array]:
            z, kept, tail, remembered = line
            at = jnp.minimum(row.step, solver.steps - 1)
            own = Own(front.sound[reach * (solver.steps - 1 - at)], row.video, row.seed)
            stepped, keep, left, changes, finite = program(
                z[at, : config.window], kept[:, at, :stride], tail[at], at, row.window, row.live, shared, own,
                memory.taken(remembered, row.place),
            )  # fmt: skip
            # Rows that are none are past the end of the axis, where nothing is written.
            z = z.at[row.step, :stride].set(stepped, mode="drop")
            kept = kept.at[:, row.step, :stride].set(keep, mode="drop")
            tail = tail.at[row.step].set(left, mode="drop")
            return (z, kept, tail, memory.put(remembered, row.place, changes)), finite

        line = front.z, front.kept, front.tail, front.memory
        (z, kept, tail, remembered), finite = jax.lax.scan(batch, line, rows)
        z, kept, tail, sound = velocity.left((z, kept, tail, front.sound))
        return Front(z, kept, tail, sound, remembered), finite

    return jax.jit(advance, donate_argnums=0, compiler_options=compiler_options(platform))


@functools.partial(jax.jit, donate_argnums=0)
def move(front: Front, noise: Float[Array, "S H W C"], sound: Float[Array, "..."]) -> Front:
    """The front of the next diagonal. Every step hands on its first stride; noise enters before the first step."""
    stride = len(noise)
    entering = jnp.concatenate([noise[None], front.z[:-1, :stride]])
    z = jnp.concatenate([front.z[:, stride:], entering], 1)
    fresh = jnp.zeros((len(front.kept), 1, *noise.shape), jnp.float32)
    kept = jnp.concatenate([front.kept[:, :, stride:], jnp.concatenate([fresh, front.kept[:, :-1, :stride]], 1)], 2)
    return Front(z, kept, front.tail, jnp.concatenate([front.sound[1:], sound[None]]), front.memory)
