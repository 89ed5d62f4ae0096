"""The denoising program in the plain order, against the definition written out over the whole video."""

import dataclasses

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.fusion import fusion_weights
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.errors import Mistake
from stableavatar_jax.sampling.plain import make_plain
from stableavatar_jax.sampling.program import Own, Source, make_program, without_memory
from stableavatar_jax.sampling.progress import Denoised, silent

SHAPE = (2, 3, 4)


def run(denoise, z, context, sound, tell=silent):
    """All finished latents of a video of whole windows."""
    source = Source(lambda start, count: z[start : start + count], lambda first: iter(jax.numpy.asarray(sound[first:])))
    made = [block.z for block in denoise([dataclasses.replace(source, windows=len(sound), shared=context)], tell)]
    if isinstance(made[0], Mistake):
        raise made[0]
    return np.concatenate(made)[: len(z)]


def velocity(context, own, z, t):
    """A stand-in network which mixes a window's frames and knows its sound and the time, without rounding products."""
    mixed = z / 2 + (z[:, ::-1]) / 4
    return mixed * context + own.sound[..., None, None, None] + (t / 1024).reshape(-1, 1, 1, 1, 1)


def owned(sound):
    return Own(sound, np.zeros(len(sound), np.int32))


advance = jax.jit(solvers.step)


@jax.jit
def blend(weights, new, old):
    return weights * new + (1 - weights) * old


def definition(solver, config, z, context, sound):
    """The method word by word: all predictions, fused from left to right, and one step on the whole video.

    Products and sums are compiled, as in the program: XLA on a CPU rounds `a*b + c` once, NumPy twice.
    """
    plan = config.plan(len(z))
    z, sound, t = np.asarray(z), np.asarray(sound), np.asarray(solver.t)
    weights = fusion_weights(config.overlap, config.fusion).reshape(-1, 1, 1, 1)
    kept = solvers.init(solver, jax.numpy.asarray(z))
    for i in range(solver.steps):
        fused = np.zeros_like(z)
        for w, start in enumerate(plan.starts):
            u = velocity(context, owned(sound[w : w + 1]), z[None, start : start + plan.window], t[i : i + 1])[0]
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
    assert_array_equal(run(make_plain(without_memory(velocity), solver, config), z, context, sound), expected)


def test_one_trace_for_videos_of_any_length_and_no_work_past_the_end():
    traced, evaluated, reports = [], [], []

    def counted(context, own, z, t):
        traced.append(z.shape)
        jax.debug.callback(lambda _: evaluated.append(1), t)
        return velocity(context, own, z, t)

    config = WindowConfig(window=5, overlap=2, rows=2, batches=2)
    solver = solvers.solver("unipc", 3)
    denoise = make_plain(without_memory(counted), solver, config)
    for count in (1, 4, 9):
        evaluated.clear()
        reports.clear()
        z, context, sound = inputs(config.plan(5 + 3 * (count - 1)))
        out = run(denoise, z, context, sound, reports.append)
        assert out.shape == z.shape and not z.is_deleted()
        jax.effects_barrier()
        assert len(evaluated) == solver.steps * -(-count // config.rows)
        done = [event for event in reports if isinstance(event, Denoised)]
        assert done[-1] == Denoised(3 * count, 3 * count) and done == sorted(done, key=lambda event: event.done)
    assert traced == [(2, 5, *SHAPE)]


def test_without_overlap_windows_are_independent():
    config = WindowConfig(window=3, overlap=0, rows=1, batches=2)
    denoise = make_plain(without_memory(velocity), solvers.solver("euler", 3), config)
    z, context, sound = inputs(config.plan(9))
    alone = [run(denoise, z[3 * w : 3 * w + 3], context, sound[w : w + 1]) for w in range(3)]
    assert_array_equal(run(denoise, z, context, sound), np.concatenate(alone))


def test_a_velocity_that_is_not_finite_ends_the_run_with_the_step():
    def broken(context, own, z, t):
        return jax.numpy.where(t.reshape(-1, 1, 1, 1, 1) < 900, np.nan, velocity(context, own, z, t))

    config, solver = WindowConfig(window=5, overlap=2), solvers.solver("euler", 5)
    step = 1 + int(np.argmax(np.asarray(solver.t) < 900))
    with pytest.raises(Mistake, match=f"step {step} gave numbers that are not finite"):
        run(make_plain(without_memory(broken), solver, config), *inputs(config.plan(12)))


@pytest.mark.parametrize("overlap", [0, 2, 5])
def test_rows_at_their_own_steps_and_windows_equal_the_rows_alone(overlap):
    """A batch of pairs (window, step) with a tail each, as an order that mixes steps has it."""
    config = WindowConfig(window=7, overlap=overlap, first_fused_step=1)
    solver, rng = solvers.solver("unipc", 4), np.random.default_rng(1)
    program = jax.jit(make_program(without_memory(velocity), solver, config))
    draw = lambda *shape: rng.normal(size=(*shape, *SHAPE)).astype(np.float32)  # noqa: E731
    stride, kept = 7 - overlap, solver.table.shape[1] - 1
    z, kept, tails = draw(3, 7), draw(kept, 3, stride), draw(3, overlap)
    step, window, live = np.array([3, 0, 1]), np.array([0, 2, 4]), np.array([True, True, False])
    sound, context = rng.normal(size=(3, 7)).astype(np.float32), np.float32(0.5)
    together = program(z, kept, tails, step, window, live, context, owned(sound), ())
    for row in range(3):
        one = slice(row, row + 1)
        place = step[one], window[one], live[one]
        alone = program(z[one], kept[:, one], tails[row], *place, context, owned(sound[one]), ())
        assert_array_equal(together[0][row], alone[0][0])
        assert_array_equal(together[1][:, row], alone[1][:, 0])
        assert_array_equal(together[2][row], alone[2])
