"""The plain order: every window of a step, from left to right, then the next step. It holds the latents of a video.

The video is cut into stretches of a fixed size, so that one compiled program serves every length; windows are walked
under `lax.scan` within a stretch, and stretches by a host that never waits for the device.
"""

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.solvers import Solver
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.sampling import memory
from stableavatar_jax.sampling.program import (
    IN_FLIGHT,
    Block,
    Join,
    Order,
    Own,
    Source,
    Velocity,
    make_program,
    not_finite,
    one_video,
)
from stableavatar_jax.sampling.progress import Denoised, Rough, Standing, State, Tell, silent
from stableavatar_jax.shapes import Array, Float


class Stretch(NamedTuple):
    """As many strides of the video as one call of the program steps."""

    z: Float[Array, "P H W C"]
    """Latents, float32."""
    kept: Float[Array, "Q P H W C"]
    """What the solver keeps of earlier steps."""
    memory: Any = ()
    """What the velocity remembers of its windows."""


def make_sweep(
    velocity: Velocity, solver: Solver, config: WindowConfig, platform: str = "cpu", kind: int = 0
) -> Callable[..., tuple[Stretch, Array, Array]]:
    """One step of one stretch, of one of the velocity's kinds, jitted; compiled once for videos of every length.

    `sweep(stretch, ahead, tail, i, first, count, shared, own)` gives the stepped stretch, the new tail and whether
    all velocities were finite. `ahead` are the `overlap` frames after the stretch, before their step; `tail` is what
    the stretch before left; `i` the step; `first` the number of the stretch's first window, `count` that of all
    windows. `own` has leading axes (micro-batches, rows). Stretch and tail are donated.
    """
    program = make_program(velocity, solver, config, kind)
    batches, _ = config.stretch
    stride, rows = config.stride, config.at_once
    within = jnp.arange(rows)

    def sweep(
        stretch: Stretch, ahead: Array, tail: Array, i: Array, first: Array, count: Array, shared: Any, own: Any
    ) -> tuple[Stretch, Array, Array]:
        frames = jnp.concatenate([stretch.z, ahead])
        by_row = (batches, rows, stride, *stretch.z.shape[1:])
        kept = jnp.moveaxis(stretch.kept.reshape(len(stretch.kept), *by_row), 1, 0)
        step = jnp.broadcast_to(i, rows)

        def batch(
            left: tuple[Array, Any], xs: tuple[Array, Array, Any]
        ) -> tuple[tuple[Array, Any], tuple[Array, Array, Array]]:
            (tail, remembered), (start, kept, own) = left, xs
            z = frames[((start + within) * stride)[:, None] + jnp.arange(config.window)]
            number = first + start + within
            own_memory = memory.taken(remembered, start + within)
            z, kept, tail, changes, finite = program(
                z, kept, tail, step, number, number < count, shared, own, own_memory
            )
            return (tail, memory.put(remembered, start + within, changes)), (z, kept, finite)

        xs = jnp.arange(batches) * rows, kept, own
        (tail, remembered), (z, kept, finite) = jax.lax.scan(batch, (tail, stretch.memory), xs)
        kept = jnp.moveaxis(kept, 0, 1).reshape(stretch.kept.shape)
        z, kept, tail = velocity.left((z.reshape(stretch.z.shape), kept, tail))
        return Stretch(z, kept, remembered), tail, finite.all()

    return jax.jit(sweep, donate_argnums=(0, 2), compiler_options=compiler_options(platform))


def make_plain(
    velocity: Velocity, solver: Solver, config: WindowConfig, platform: str = "cpu", join: Join = one_video
) -> Order:
    """The plain order: videos one after another, of each all windows of a step, then the next step."""
    sweeps = [make_sweep(velocity, solver, config, platform, kind) for kind in range(len(velocity.kinds))]

    def denoise(sources: Iterable[Source], tell: Tell = silent, state: State | None = None) -> Iterator[Block]:
        coming = deque(sources)
        del sources  # what a video's windows share may go while its latents are decoded
        for number in range(len(coming)):
            try:
                made = _steps(coming.popleft(), velocity, solver, config, sweeps, join, tell, state)
            except FloatingPointError as error:
                yield Block(number, 0, not_finite(error.args[0]))
                continue
            for p, z in enumerate(made):
                yield Block(number, p * len(z), np.asarray(z))

    return denoise


def _steps(
    source: Source, velocity: Velocity, solver: Solver, config: WindowConfig, sweeps: Sequence[Any], join: Join,
    tell: Tell, state: State | None,
) -> list[Array]:  # fmt: skip
    """All steps of one video; the latents of its stretches. Raises FloatingPointError with the step where they are not
    finite.
    """
    batches, windows = config.stretch
    own = list(source.sounds(0))
    size, plan = windows * config.stride, config.plan(config.padded(len(own)))
    count = math.ceil(plan.padded / size)
    divided = _divide(jnp.stack(own), count, batches, config.at_once)
    rows = (batches, config.at_once)
    seeds = np.full(rows, source.seed, np.uint32)
    owns = [Own(divided[p], np.zeros(rows, np.int32), seeds) for p in range(count)]
    if state is None:
        z = _divide(source.noise(0, plan.padded), count, size)
        fresh = lambda: memory.begin(velocity, windows, (config.window, *z.shape[2:]))  # noqa: E731
        stretches = [_stretch(velocity, z[p], solvers.init(solver, z[p]), fresh()) for p in range(count)]
        tail, begin = jnp.zeros((config.overlap, *z.shape[2:])), 0
    else:
        stretches = [_from_state(velocity, config, state, p) for p in range(count)]
        tail, begin = jnp.asarray(state.arrays["tail"]), state.place["sweeps"]
    tail, nothing = velocity.placed((tail, jnp.zeros(tail.shape)))
    shared = join([source.shared])
    waiting: deque[tuple[int, Array]] = deque()

    def report() -> None:
        """Wait for a call that was made a while ago; a later one is on its way, so the device does not wait for us."""
        done, finite = waiting.popleft()
        step, p = divmod(done, count)
        if not finite:
            raise FloatingPointError(step)
        tell(Denoised(step * plan.count + min((p + 1) * windows, plan.count), solver.steps * plan.count))

    for done in range(begin, solver.steps * count):
        step, p = divmod(done, count)
        ahead = stretches[p + 1].z[: config.overlap] if p + 1 < count else nothing
        tail = tail if p else velocity.placed(jnp.zeros(nothing.shape))
        sweep = sweeps[velocity.at(step)]
        stretches[p], tail, finite = sweep(stretches[p], ahead, tail, step, p * windows, plan.count, shared, owns[p])
        # Before the wait, so that what is kept where a signal ends it is a state that nothing has been handed yet.
        tell(Standing(functools.partial(_state, done + 1, stretches, tail)))
        if p == 0:
            tell(Rough(step + 1, lambda: stretches[0].z[: config.stride]))
        waiting.append((done, finite))
        if len(waiting) > IN_FLIGHT:
            report()
    while waiting:
        report()
    return [stretch.z for stretch in stretches]


def _state(sweeps: int, stretches: list[Stretch], tail: Array) -> State:
    """Everything on the host."""
    each = [{"z": s.z, "kept": s.kept} | memory.to_host(s.memory) for s in stretches]
    stacked = {name: np.stack([arrays[name] for arrays in each]) for name in each[0]}
    return State({"sweeps": sweeps}, {"tail": np.asarray(tail)} | stacked)


def _stretch(velocity: Velocity, z: Array, kept: Array, remembered: Any) -> Stretch:
    """A stretch where the program leaves it, with a memory that lies where it belongs."""
    z, kept = velocity.placed((z, kept))
    return Stretch(z, kept, remembered)


def _from_state(velocity: Velocity, config: WindowConfig, state: State, p: int) -> Stretch:
    """A stretch of a state, on the device."""
    own = {name: array[p] for name, array in state.arrays.items() if name != "tail"}
    fresh = memory.begin(velocity, config.stretch[1], (config.window, *own["z"].shape[1:]))
    return _stretch(velocity, jnp.asarray(own["z"]), jnp.asarray(own["kept"]), memory.from_host(fresh, own))


def _divide(x: Array, *shape: int) -> Array:
    """The leading axis filled up with zeros and divided into `shape`."""
    missing = math.prod(shape) - len(x)
    return jnp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1))).reshape(*shape, *x.shape[1:])
