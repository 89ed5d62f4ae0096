"""The plain order: every window of a step, from left to right, then the next step. It holds the latents of a video.

The video is cut into stretches of a fixed size, so that one compiled program serves every length; windows are walked
under `lax.scan` within a stretch, and stretches by a host that never waits for the device.
"""

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.solvers import Solver
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.sampling.program import (
    IN_FLIGHT,
    Block,
    Join,
    Order,
    Own,
    Source,
    VelocityFn,
    make_program,
    not_finite,
    one_video,
)
from stableavatar_jax.sampling.progress import Denoised, Standing, State, Tell, silent
from stableavatar_jax.shapes import Array, Float


class Stretch(NamedTuple):
    """As many strides of the video as one call of the program steps."""

    z: Float[Array, "P H W C"]
    """Latents, float32."""
    kept: Float[Array, "Q P H W C"]
    """What the solver keeps of earlier steps."""


def make_sweep(
    velocity: VelocityFn, solver: Solver, config: WindowConfig, platform: str = "cpu"
) -> Callable[..., tuple[Stretch, Array, Array]]:
    """One step of one stretch, jitted; compiled once for videos of every length.

    `sweep(stretch, ahead, tail, i, first, count, shared, own)` gives the stepped stretch, the new tail and whether
    all velocities were finite. `ahead` are the `overlap` frames after the stretch, before their step; `tail` is what
    the stretch before left; `i` the step; `first` the number of the stretch's first window, `count` that of all
    windows. `own` has leading axes (micro-batches, rows). Stretch and tail are donated.
    """
    program = make_program(velocity, solver, config)
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

        def batch(tail: Array, xs: tuple[Array, Array, Any]) -> tuple[Array, tuple[Array, Array, Array]]:
            start, kept, own = xs
            z = frames[((start + within) * stride)[:, None] + jnp.arange(config.window)]
            number = first + start + within
            z, kept, tail, finite = program(z, kept, tail, step, number, number < count, shared, own)
            return tail, (z, kept, finite)

        tail, (z, kept, finite) = jax.lax.scan(batch, tail, (jnp.arange(batches) * rows, kept, own))
        kept = jnp.moveaxis(kept, 0, 1).reshape(stretch.kept.shape)
        return Stretch(z.reshape(stretch.z.shape), kept), tail, finite.all()

    return jax.jit(sweep, donate_argnums=(0, 2), compiler_options=compiler_options(platform))


def make_plain(
    velocity: VelocityFn, solver: Solver, config: WindowConfig, platform: str = "cpu", join: Join = one_video
) -> Order:
    """The plain order: videos one after another, of each all windows of a step, then the next step."""
    sweep = make_sweep(velocity, solver, config, platform)

    def denoise(sources: Iterable[Source], tell: Tell = silent, state: State | None = None) -> Iterator[Block]:
        coming = deque(sources)
        del sources  # what a video's windows share may go while its latents are decoded
        for number in range(len(coming)):
            try:
                stretches = _steps(coming.popleft(), solver, config, sweep, join, tell, state)
            except FloatingPointError as error:
                yield Block(number, 0, not_finite(error.args[0]))
                continue
            for p, stretch in enumerate(stretches):
                yield Block(number, p * len(stretch.z), np.asarray(stretch.z))

    return denoise


def _steps(
    source: Source, solver: Solver, config: WindowConfig, sweep: Any, join: Join, tell: Tell, state: State | None
) -> list[Stretch]:
    """All steps of one video; its stretches. Raises FloatingPointError with the step where they are not finite."""
    batches, windows = config.stretch
    own = list(source.sounds(0))
    size, plan = windows * config.stride, config.plan(config.padded(len(own)))
    count = math.ceil(plan.padded / size)
    divided = _divide(jnp.stack(own), count, batches, config.at_once)
    owns = [Own(divided[p], np.zeros((batches, config.at_once), np.int32)) for p in range(count)]
    if state is None:
        z = _divide(source.noise(0, plan.padded), count, size)
        stretches = [Stretch(z[p], solvers.init(solver, z[p])) for p in range(count)]
        tail, begin = jnp.zeros((config.overlap, *z.shape[2:])), 0
    else:
        stretches = [Stretch(*each) for each in zip(*(state.arrays[name] for name in Stretch._fields), strict=True)]
        tail, begin = jnp.asarray(state.arrays["tail"]), state.place["sweeps"]
    nothing, shared = jnp.zeros(tail.shape), join([source.shared])
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
        tail = tail if p else jnp.zeros(nothing.shape)
        stretches[p], tail, finite = sweep(stretches[p], ahead, tail, step, p * windows, plan.count, shared, owns[p])
        # Before the wait, so that what is kept where a signal ends it is a state that nothing has been handed yet.
        tell(Standing(functools.partial(_state, done + 1, stretches, tail)))
        waiting.append((done, finite))
        if len(waiting) > IN_FLIGHT:
            report()
    while waiting:
        report()
    return stretches


def _state(sweeps: int, stretches: list[Stretch], tail: Array) -> State:
    """Everything on the host."""
    fields = zip(Stretch._fields, zip(*stretches, strict=True), strict=True)
    return State({"sweeps": sweeps}, {"tail": np.asarray(tail)} | {name: np.stack(each) for name, each in fields})


def _divide(x: Array, *shape: int) -> Array:
    """The leading axis filled up with zeros and divided into `shape`."""
    missing = math.prod(shape) - len(x)
    return jnp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1))).reshape(*shape, *x.shape[1:])
