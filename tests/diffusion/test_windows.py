"""Plans, fusion, and the denoising program against the definition written out over the whole video."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stableavatar_jax.diffusion import flow, solvers, windows
from stableavatar_jax.diffusion.windows import WindowConfig

SHAPE = (2, 3, 4)


def velocity(context, sound, z, t):
    """A stand-in network which mixes a window's frames and knows its sound and the time, without rounding products."""
    mixed = z / 2 + (z[:, ::-1]) / 4
    return mixed * context + sound[..., None, None, None] + (t / 1024).reshape(-1, 1, 1, 1, 1)


advance = jax.jit(solvers.step)


@jax.jit
def blend(weights, new, old):
    return weights * new + (1 - weights) * old


def definition(solver, config, z, context, sound):
    """SPEC section 6 word by word: all predictions, fused from left to right, and one step on the whole video.

    Products and sums are compiled, as in the program: XLA on a CPU rounds `a*b + c` once, NumPy twice.
    """
    plan = config.plan(len(z))
    z, sound, t = np.asarray(z), np.asarray(sound), np.asarray(solver.t)
    weights = windows.fusion_weights(config.overlap, config.fusion).reshape(-1, 1, 1, 1)
    kept = solvers.init(solver, jax.numpy.asarray(z))
    for i in range(solver.steps):
        fused = np.zeros_like(z)
        for w, start in enumerate(plan.starts):
            u = velocity(context, sound[w : w + 1], z[None, start : start + plan.window], t[i : i + 1])[0]
            if w > 0 and i >= config.first_fused_step:
                shared = slice(start, start + plan.overlap)
                u[: plan.overlap] = blend(weights, u[: plan.overlap], fused[shared])
            fused[start : start + plan.window] = u
        z, kept = advance(solver, i, z, fused, kept)
        z = np.asarray(z)
    return z


def inputs(plan, seed=0):
    key = jax.random.key(seed)
    z = flow.frame_noise(key, 0, plan.padded, SHAPE)
    return z, np.float32(0.5), jax.random.normal(jax.random.fold_in(key, 10**6), (plan.count, plan.window))


@pytest.mark.parametrize("name", ["euler", "unipc", "dpm++"])
@pytest.mark.parametrize("count, overlap, first, rows, batches", [
    (1, 3, 0, 1, 1), (4, 0, 0, 2, 2), (5, 2, 1, 1, 3), (6, 3, 0, 2, 2), (7, 5, 1, 3, 1), (9, 6, 0, 2, 4),
])  # fmt: skip
def test_program_equals_definition(name, count, overlap, first, rows, batches):
    config = WindowConfig(window=7, overlap=overlap, first_fused_step=first, rows=rows, batches=batches)
    plan = config.plan(7 + (count - 1) * (7 - overlap))
    solver = solvers.solver(name, 4)
    z, context, sound = inputs(plan)
    expected = definition(solver, config, z, context, sound)
    assert_array_equal(windows.make_denoise(velocity, solver, config)(z, context, sound), expected)
