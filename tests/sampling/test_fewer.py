"""Options for fewer evaluations: levels of distilled weights, new noise, and what is refused."""

import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stableavatar_jax.configs import avatar_1b
from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.flow import frame_noise, step_noise
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation import __main__ as evaluate
from stableavatar_jax.plan import cost
from stableavatar_jax.plan.kept import check_room
from stableavatar_jax.sampling import __main__ as sample
from stableavatar_jax.sampling.config import Denoising, SampleConfig, change
from stableavatar_jax.sampling.fewer import SAMPLERS
from stableavatar_jax.sampling.plain import make_plain
from stableavatar_jax.sampling.program import without_memory
from stableavatar_jax.sampling.timeline import timeline
from stableavatar_jax.sampling.wavefront import make_wavefront
from tests.sampling.test_memory import made
from tests.sampling.test_wavefront import source, velocity

WINDOWS = WindowConfig(window=7, overlap=3, rows=2, batches=2)


@pytest.mark.parametrize("sampler, levels, renoise", [
    ("lightx2v", [1, 0.9375, 0.83333, 0.625], False),
    ("self_forcing", [1, 0.9375, 0.83333, 0.625], True),
    ("causvid", [1, 0.757, 0.522], True),
    ("rcm", [0.98765, 0.93378, 0.85289, 0.60898], True),
])  # fmt: skip
def test_levels_of_distilled_weights(sampler, levels, renoise):
    np.testing.assert_allclose(SAMPLERS[sampler][0], levels, atol=6e-6)
    way = change(change(SampleConfig(), solver="unipc", steps=7), sampler=sampler, solver="euler").denoising
    assert (way.steps, way.guidance, way.solver, way.branches_run()) == (len(levels), "none", "euler", len(levels))
    fewer = way.fewer
    told = solvers.solver("euler", 9, levels=fewer.noise_levels, renoise=fewer.renoises)
    np.testing.assert_allclose(told.s, [*levels, 0], atol=6e-6)
    np.testing.assert_allclose(told.t, 1000 * np.float32(levels), atol=6e-3)
    assert (told.noise is not None) == renoise
    other = change(SampleConfig(), sampler=sampler, levels=(0.9, 0.5), renoise=not renoise).denoising
    assert other.steps == 2 and other.fewer.renoises != renoise


def test_a_renoised_step_by_hand():
    """x0 = z - s v, then (1 - s') x0 + s' noise; the last step ends at x0."""
    solver = solvers.solver("euler", 2, levels=(0.8, 0.5), renoise=True)
    z, v, noise = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 2)), jnp.float32)
    kept = solvers.init(solver, z)
    np.testing.assert_allclose(solvers.step(solver, 0, z, v, kept, noise)[0], 0.5 * (z - 0.8 * v) + 0.5 * noise, 1e-5)
    np.testing.assert_allclose(solvers.step(solver, 1, z, v, kept, noise)[0], z - 0.5 * v, 1e-5)


def test_new_noise_is_of_a_frame_a_step_and_a_seed():
    draw = lambda seed, step, start, count: np.asarray(  # noqa: E731
        step_noise(jax.random.key(seed), jnp.int32(step), jnp.int32(start), count, (2, 3))
    )
    all_frames = draw(1, 0, 0, 9)
    assert_array_equal(draw(1, 0, 5, 3), all_frames[5:8])
    for other in (draw(1, 1, 0, 9), draw(2, 0, 0, 9), frame_noise(jax.random.key(1), 0, 9, (2, 3))):
        assert np.abs(other - all_frames).min(axis=(1, 2)).max() > 0 and abs(np.corrcoef(
            np.ravel(other), np.ravel(all_frames))[0, 1]) < 0.35  # fmt: skip


def test_new_noise_in_both_orders_with_several_videos():
    """In any order, beside any other video and in any division; a longer video begins as a shorter one."""
    order = lambda make, rows: make(  # noqa: E731
        without_memory(velocity), solvers.solver("euler", 3, levels=(1.0, 0.757, 0.522), renoise=True),
        dataclasses.replace(WINDOWS, rows=rows), join=jnp.stack,
    )  # fmt: skip
    given = [dataclasses.replace(source(WINDOWS, n, i), seed=2**32 - 1 - i) for i, n in enumerate([1, 6, 2])]
    plain, wavefront = order(make_plain, 1), order(make_wavefront, 2)
    for each, alone in zip(made(wavefront, given), given, strict=True):
        length = WINDOWS.padded(alone.windows)
        assert_array_equal(each[:length], made(plain, [alone])[0][:length])
    again = dataclasses.replace(given[1], seed=7)
    assert np.abs(made(plain, [again])[0] - made(plain, given[1:2])[0]).max() > 0.1


@pytest.mark.parametrize("options, message", [
    ({"guidance_from": 1.5}, "guidance_from is 1.5, a share of 0 to 1"),
    ({"guidance_from": 0.5, "guidance_until": 0.5}, "a share below guidance_until, 0.5"),
    ({"guidance_reuse": True}, "--guidance-until, which is 1; give a share such as 0.5"),
    ({"guidance_reuse": True, "guidance_until": 0.5, "guidance": "none"}, "--guidance none has one branch alone"),
    ({"guidance_until": 0.5, "sampler": "rcm"}, "--sampler rcm has one branch alone"),
    ({"cache": "a.json", "steps": 8}, "a cache is worth nothing at 8 steps or fewer; 8 are taken, 10 are needed"),
    ({"cache": "a.json", "sampler": "lightx2v"}, "a cache is worth nothing at 8 steps or fewer"),
    ({"levels": (0.5, 0.7)}, "levels are 0.5, 0.7; they fall from 1 or less"),
    ({"levels": (1.0, 0.0)}, "stay above 0"),
    ({"renoise": True, "solver": "unipc"}, "unipc does not; take --solver euler"),
    ({"levels": (1.0, 0.5), "solver": "dpm++"}, r"dpm\+\+ divides by 1 - s"),
    ({"cache_most": 0}, "cache_most is 0, 1 or more"),
    ({"sampler": "rcm", "solver": "unipc"}, "--solver unipc would change nothing beside --sampler rcm: leave out"),
    ({"sampler": "rcm", "shift": 5.0}, "--shift 5.0 would change nothing beside --sampler rcm"),
    ({"sampler": "rcm", "levels": (1.0, 0.5), "steps": 4}, "--steps 4 would change nothing beside --levels 1 0.5"),
])  # fmt: skip
def test_refused(options, message):
    if "cache" in options:
        options = options | {"cache": Path(options["cache"])}
    with pytest.raises(Mistake, match=message):
        change(SampleConfig(), **options)


@pytest.mark.parametrize("argv, message", [
    (["sample", "--config=demo_student", "--steps", "8"], "--steps 8 would change nothing beside --levels 1 0.9 0.75"),
    (["talk", "--sample.sampler=rcm", "--sample.guidance=cfg"], "--guidance cfg would change nothing beside --sampler"),
    (["sample", "--config=demo_student", "--steps=4"], None),
    (["sample", "--config=demo_student", "--levels", "--steps=8"], None),
])  # fmt: skip
def test_options_that_would_change_nothing_are_refused(argv, message, capsys):
    """Given on the command line; those of a preset give way."""
    status = sample.main(argv[1:]) if argv[0] == "sample" else evaluate.main([*argv, "--clips=none"])
    assert status == (2 if message else 1)
    assert (message or "--image is missing") in capsys.readouterr().err


def test_guidance_without_its_main_branch_cannot_be_reused():
    way = change(SampleConfig(), guidance="cfg", text_scale=0.0, guidance_until=0.5).denoising
    assert [step.guided for step in way.schedule()] == [True] * 25 + [False] * 25
    with pytest.raises(Mistake, match="no branch with prompt and sound"):
        change(SampleConfig(), guidance="cfg", text_scale=0.0, guidance_until=0.5, guidance_reuse=True) \
            .denoising.schedule()  # fmt: skip


def test_the_plan_counts_what_is_left_out():
    """50 steps and three branches: 25 x 3 + 25 with reuse after half; memory for the difference of each window."""
    full = avatar_1b.config
    half = change(full, guidance_until=0.5, guidance_reuse=True)
    time = timeline(16000 * 20, full.frame.fps, full.denoising.windows)
    one, two = cost.plan(full, time), cost.plan(half, time)
    count = time.windows.count
    assert (one.evaluations, two.evaluations) == (150 * count, 100 * count)
    assert math.isclose(two.operations["denoising"] / one.operations["denoising"], 2 / 3, rel_tol=0.02)
    assert two.remembered == 4 * 21 * 60 * 104 * 16 * count and one.remembered == 0
    assert two.memory["transformer"] - one.memory["transformer"] in (two.remembered, 0)
    told = cost.kept.told(half)
    assert told == "(25 steps x 3 branches + 25 steps x 1 branch), 33% fewer"
    with pytest.raises(Mistake, match="--guidance-reuse keeps 0.1 GiB of the windows"):
        check_room(half, 1e18, two.remembered)
    check_room(full, 1e18, one.remembered)


def test_both_defaults_evaluate_everything():
    assert Denoising().schedule() == () and Denoising().branches_run() == 150
