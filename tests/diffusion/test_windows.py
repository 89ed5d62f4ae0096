"""Plans, fusion, and the denoising program against the definition written out over the whole video."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from stableavatar_jax.diffusion import solvers, windows
from stableavatar_jax.diffusion.windows import WindowConfig, WindowPlan

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
    """The definition in docs/method.md: all predictions, fused from left to right, and one step on the whole video.

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


def inputs(plan):
    rng = np.random.default_rng(0)
    z = jax.numpy.asarray(rng.normal(size=(plan.padded, *SHAPE)), "float32")
    return z, np.float32(0.5), rng.normal(size=(plan.count, plan.window)).astype(np.float32)


@pytest.mark.parametrize("name, count, overlap, first, rows, batches", [
    ("euler", 1, 3, 0, 1, 1),  # one window
    ("dpm++", 5, 0, 0, 2, 2),  # independent windows
    ("unipc", 5, 2, 1, 1, 3),  # the release's first step
    ("unipc", 6, 3, 0, 2, 2),  # the last row of the last micro-batch is empty
    ("dpm++", 9, 5, 0, 3, 1),  # more than two windows meet, and a tail is as long as three strides
])  # fmt: skip
def test_program_equals_definition(name, count, overlap, first, rows, batches):
    config = WindowConfig(window=7, overlap=overlap, first_fused_step=first, rows=rows, batches=batches)
    plan = config.plan(7 + (count - 1) * (7 - overlap))
    solver = solvers.solver(name, 4)
    z, context, sound = inputs(plan)
    expected = definition(solver, config, z, context, sound)
    assert_array_equal(windows.make_denoise(velocity, solver, config)(z, context, sound), expected)


def test_one_trace_for_videos_of_any_length_and_no_work_past_the_end():
    traced, evaluated, reports = [], [], []

    def counted(context, sound, z, t):
        traced.append(z.shape)
        jax.debug.callback(lambda _: evaluated.append(1), t)
        return velocity(context, sound, z, t)

    config = WindowConfig(window=5, overlap=2, rows=2, batches=2)
    solver = solvers.solver("unipc", 3)
    denoise = windows.make_denoise(counted, solver, config)
    for count in (1, 4, 9):
        evaluated.clear()
        reports.clear()
        z, context, sound = inputs(config.plan(5 + 3 * (count - 1)))
        out = denoise(z, context, sound, lambda i, done, finite: reports.append((i, done, finite)))
        assert out.shape == z.shape and not z.is_deleted()
        jax.effects_barrier()
        assert len(evaluated) == solver.steps * -(-count // config.rows)
        assert reports[-1][:2] == (2, count) and all(finite for *_, finite in reports)
    assert traced == [(2, 5, *SHAPE)]


def test_without_overlap_windows_are_independent():
    config = WindowConfig(window=3, overlap=0, rows=1, batches=2)
    denoise = windows.make_denoise(velocity, solvers.solver("euler", 3), config)
    z, context, sound = inputs(config.plan(9))
    alone = [denoise(z[3 * w : 3 * w + 3], context, sound[w : w + 1]) for w in range(3)]
    assert_array_equal(denoise(z, context, sound), np.concatenate(alone))


@pytest.mark.parametrize("kind", ["logarithmic", "linear", "fixed"])
@pytest.mark.parametrize("overlap", [2, 5, 20])
def test_fusion_weights(kind, overlap):
    weights = np.asarray(windows.fusion_weights(overlap, kind))
    assert (weights[0], weights[-1]) == ((0.5, 0.5) if kind == "fixed" else (0, 1))
    assert (np.diff(weights) >= 0).all()


def test_fusion_keeps_what_windows_agree_on():
    weights = windows.fusion_weights(5)
    tail, velocity = jax.numpy.full((5, *SHAPE), 3.0), jax.numpy.full((7, *SHAPE), 3.0)
    for part in windows.fuse(tail, velocity, weights):
        assert_allclose(part, 3, rtol=1e-6)


@pytest.mark.parametrize("overlap", [0, 2, 5, 10, 15, 20])
def test_plan_covers_every_frame_with_whole_windows(overlap):
    for frames in (1, 2, 20, 21, 22, 37, 38, 376):
        plan = WindowPlan(frames, 21, overlap)
        assert plan.padded - plan.stride < max(frames, 21 - plan.stride + 1) <= max(plan.padded, frames) == plan.padded
        assert plan.starts[-1] + plan.window == plan.padded and len(plan.starts) == plan.count
        assert plan.video_starts[-1] == 4 * plan.starts[-1]


@pytest.mark.parametrize("frames, window, overlap", [(0, 21, 5), (5, 21, 1), (5, 21, 21), (5, 21, -1), (5, 0, 0)])
def test_impossible_plans_are_refused(frames, window, overlap):
    with pytest.raises(ValueError, match="impossible|at least 1"):
        WindowPlan(frames, window, overlap)


def test_other_lengths_than_a_plan_has_are_refused():
    config = WindowConfig(window=5, overlap=2)
    denoise = windows.make_denoise(velocity, solvers.solver("euler", 2), config)
    z, context, sound = inputs(config.plan(8))
    with pytest.raises(ValueError, match="whole windows"):
        denoise(z[:-1], context, sound)
    with pytest.raises(ValueError, match="whole windows"):
        denoise(z, context, sound[:1])


def test_latent_frames():
    assert [windows.latent_frames(n) for n in (1, 2, 5, 6, 81, 82)] == [1, 2, 2, 3, 21, 22]
