"""The plain order: every window of a step, from left to right, then the next step. It holds the latents of a video.

The video is cut into stretches of a fixed size, so that one compiled program serves every length; windows are walked
under `lax.scan` within a stretch, and stretches by a host that never waits for the device.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.solvers import Solver
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.errors import Mistake
from stableavatar_jax.sampling.program import VelocityFn, make_program
from stableavatar_jax.sampling.progress import Denoised, Finished, Tell, silent
from stableavatar_jax.shapes import Array, Float

IN_FLIGHT = 2
"""Calls of the program that wait for the device while the host prepares the next one."""


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

    `sweep(stretch, ahead, tail, i, first, count, shared, sound)` gives the stepped stretch, the new tail and whether
    all velocities were finite. `ahead` are the `overlap` frames after the stretch, before their step; `tail` is what
    the stretch before left; `i` the step; `first` the number of the stretch's first window, `count` that of all
    windows. `sound` has leading axes (micro-batches, rows). Stretch and tail are donated.
    """
    program = make_program(velocity, solver, config)
    batches, _ = config.stretch
    stride, rows = config.window - config.overlap, config.rows
    within = jnp.arange(rows)

    def sweep(
        stretch: Stretch, ahead: Array, tail: Array, i: Array, first: Array, count: Array, shared: Any, sound: Any
    ) -> tuple[Stretch, Array, Array]:
        frames = jnp.concatenate([stretch.z, ahead])
        by_row = (batches, rows, stride, *stretch.z.shape[1:])
        kept = jnp.moveaxis(stretch.kept.reshape(len(stretch.kept), *by_row), 1, 0)
        step = jnp.broadcast_to(i, rows)

        def batch(tail: Array, xs: tuple[Array, Array, Any]) -> tuple[Array, tuple[Array, Array, Array]]:
            start, kept, sound = xs
            z = frames[((start + within) * stride)[:, None] + jnp.arange(config.window)]
            number = first + start + within
            z, kept, tail, finite = program(z, kept, tail, step, number, number < count, shared, sound)
            return tail, (z, kept, finite)

        tail, (z, kept, finite) = jax.lax.scan(batch, tail, (jnp.arange(batches) * rows, kept, sound))
        kept = jnp.moveaxis(kept, 0, 1).reshape(stretch.kept.shape)
        return Stretch(z.reshape(stretch.z.shape), kept), tail, finite.all()

    return jax.jit(sweep, donate_argnums=(0, 2), compiler_options=compiler_options(platform))


def make_plain(
    velocity: VelocityFn, solver: Solver, config: WindowConfig, platform: str = "cpu"
) -> Callable[..., Iterator[Any]]:
    """The loop over all steps and windows in the plain order.

    `denoise(z [N H W C], shared, sound, frames, tell=silent)` turns noise into the first `frames` finished latents,
    float32, and yields them stretch by stretch when the last step is done. N is the `padded` length of a plan, `sound`
    a tree of arrays with a leading axis of the plan's `count`; ValueError if not. Raises Mistake where a velocity is
    not finite.
    """
    sweep = make_sweep(velocity, solver, config, platform)
    batches, windows = config.stretch

    def denoise(
        z: Array, shared: Any, sound: Any, frames: int, tell: Tell = silent
    ) -> Iterator[Float[np.ndarray, "n H W C"]]:
        plan = config.plan(len(z))
        lengths = {len(x) for x in jax.tree.leaves(sound)}
        if len(z) != plan.padded or lengths - {plan.count}:
            raise ValueError(
                f"{len(z)} latent frames and sound for {sorted(lengths)} windows are no whole windows of {plan.window} "
                f"with overlap {plan.overlap}; {plan.padded} frames and {plan.count} windows would be"
            )
        size = windows * plan.stride
        count = math.ceil(plan.padded / size)
        z = _divide(z.astype(jnp.float32), count, size)
        stretches = [Stretch(z[p], solvers.init(solver, z[p])) for p in range(count)]
        sound = jax.tree.map(lambda x: _divide(x, count, batches, config.rows), sound)
        sounds = [jax.tree.map(lambda x, p=p: x[p], sound) for p in range(count)]
        overlapping = (plan.overlap, *z.shape[2:])
        waiting: deque[tuple[int, int, Array]] = deque()
        for i in range(solver.steps):
            tail = jnp.zeros(overlapping)
            for p in range(count):
                ahead = stretches[p + 1].z[: plan.overlap] if p + 1 < count else jnp.zeros(overlapping)
                stretches[p], tail, finite = sweep(
                    stretches[p], ahead, tail, i, p * windows, plan.count, shared, sounds[p]
                )
                waiting.append((i, min((p + 1) * windows, plan.count), finite))
                if len(waiting) > IN_FLIGHT:
                    _report(waiting.popleft(), solver.steps, plan.count, tell)
        while waiting:
            _report(waiting.popleft(), solver.steps, plan.count, tell)
        needed = stretches[: math.ceil(frames / size)]
        finished = [np.asarray(stretch.z)[: frames - p * size] for p, stretch in enumerate(needed)]
        del shared, sound, sounds, stretches, needed  # weights and features may go while the latents are decoded
        for latents in finished:
            tell(Finished(latents))
        yield from finished

    return denoise


def _report(call: tuple[int, int, Array], steps: int, windows: int, tell: Tell) -> None:
    """Wait for a call that was made a while ago; a later one is on its way, so the device does not wait for us."""
    step, done, finite = call
    if not finite:
        raise Mistake(
            f"step {step + 1} gave numbers that are not finite; try --dtype float32 and lower guidance scales, and run "
            "`python -m convert verify` on the checkpoint",
            "not finite",
        )
    tell(Denoised(step * windows + done, steps * windows))


def _divide(x: Any, *shape: int) -> Any:
    """The leading axis filled up with zeros and divided into `shape`."""
    xp = np if isinstance(x, np.ndarray) else jnp  # what lies on the host stays there until its turn
    missing = math.prod(shape) - len(x)
    return xp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1))).reshape(*shape, *x.shape[1:])
