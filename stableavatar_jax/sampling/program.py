"""The denoising program: R windows, each at its own step, through the network, fusion and the solver.

It knows neither the order in which windows are visited nor how long the video is: `plain.py` walks a video step by
step with it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.fusion import fuse, fusion_weights
from stableavatar_jax.diffusion.solvers import Solver
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.shapes import Array

VelocityFn = Callable[[Any, Any, Array, Array], Array]
"""`velocity(shared, sound, z [R F H W C], t [R]) -> [R F H W C]`: the guided velocity of R windows.

`shared` is what all windows share (parameters, picture, text), `sound` what each has for itself, its arrays with a
leading axis R; `t` is the network's time input, 1000 at noise."""

Program = Callable[..., tuple[Array, Array, Array, Array]]


def make_program(velocity: VelocityFn, solver: Solver, config: WindowConfig) -> Program:
    """The program, a pure function to be jitted within an order:

    `program(z [R F H W C], kept [Q R S H W C], tail, step [R], window [R], live [R], shared, sound [R ...])` gives the
    next latents of each window's first S frames (S is the stride; no later window changes their velocity), what the
    solver keeps of them, the new tail, and whether all velocities were finite.

    A tail is the fused velocities of the `overlap` frames that a window shares with the one before it. `[overlap ...]`
    is handed from row to row: the rows are neighbours. `[R overlap ...]` has one for each row. A row that is not
    `live` has no window: its tail runs out, and the network is not run where no row is live.
    """
    stride = config.window - config.overlap
    weights = fusion_weights(config.overlap, config.fusion)

    def program(z: Array, kept: Array, tail: Array, step: Array, window: Array, live: Array, shared: Any, sound: Any):
        predict = lambda: velocity(shared, sound, z, solver.t[step]).astype(jnp.float32)  # noqa: E731
        v = jax.lax.cond(live.any(), predict, lambda: jnp.zeros(z.shape, jnp.float32))
        v = jnp.where(live.reshape(-1, *(1,) * (z.ndim - 1)), v, 0)
        alone = (window == 0) | (step < config.first_fused_step)
        share = jnp.where(alone[:, None], 1, weights) * live[:, None]
        if tail.ndim == z.ndim:
            tail, v = jax.vmap(fuse)(tail, v, share)
        else:
            tail, v = jax.lax.scan(lambda tail, row: fuse(tail, *row), tail, (v, share))
        z, kept = solvers.step(solver, step, z[:, :stride], v, kept)
        return z, kept, tail, jnp.isfinite(v).all()

    return program
