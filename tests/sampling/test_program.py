"""The denoising program: what it takes in, how often it is traced, and what guidance costs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.configs import tiny
from stableavatar_jax.diffusion import guidance, solvers
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.models.avatar import part
from stableavatar_jax.sampling.plain import Stretch, make_plain, make_sweep
from stableavatar_jax.sampling.program import Own, Source, without_memory
from stableavatar_jax.sampling.velocity import join, make_velocity, share, slots
from stableavatar_jax.sampling.wavefront import make_wavefront
from tests.params import random_params

MODEL = dataclasses.replace(tiny.model, dit=dataclasses.replace(tiny.model.dit, layers=1))
WINDOWS = WindowConfig(window=5, overlap=2, batches=2)
SHAPE = (2, 4, 16)
TOKENS = 33


def conditions(windows: int) -> Conditions:
    rng = np.random.default_rng(0)
    dit = MODEL.dit
    return Conditions(
        text=rng.standard_normal((2, dit.text_len, dit.text_dim), np.float32),
        text_mask=np.arange(dit.text_len) < np.asarray([[5], [9]]),
        image=rng.standard_normal((7, dit.image_dim), np.float32),
        reference=rng.standard_normal((WINDOWS.window, *SHAPE[:2], 20), np.float32),
        audio=rng.standard_normal((windows, TOKENS, dit.adapter.audio_dim), np.float32),
    )


@pytest.fixture(scope="module")
def dit():
    return part(MODEL, "dit")


@pytest.fixture(scope="module")
def params(dit):
    return random_params(dit)


def test_the_program_takes_no_encoder_and_does_no_encoding(dit, params):
    """Its inputs are the transformer's weights, conditions and latents; no weight that makes them is read in it."""
    given = conditions(1)
    shared, own = share(dit, params, given, TOKENS), owned(dit, params, given.audio)
    batches, windows = WINDOWS.stretch
    frames = windows * (WINDOWS.window - WINDOWS.overlap)
    solver = solvers.solver("euler", 2)
    sweep = make_sweep(make_velocity(dit, guidance.audio_native()), solver, WINDOWS)
    z = jnp.zeros((frames, *SHAPE))
    tail = jnp.zeros((WINDOWS.overlap, *SHAPE))
    own = Own(jnp.zeros((batches, *own.sound.shape)), jnp.zeros((batches, 1), int))
    traced = sweep.trace(Stretch(z, solvers.init(solver, z)), tail, tail, 0, 0, 1, shared, own)

    shapes = {x.shape for x in jax.tree.leaves(traced.in_avals)}
    own = {x.shape for x in jax.tree.leaves((params, shared, z, tail, own))} | {(), (0, *z.shape)}
    assert shapes <= own
    # Text, picture and sound have been projected already: the program does not read the weights that do that.
    used = _used_inputs(traced.jaxpr)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(traced.in_avals)]
    read = {name for name, is_used in zip(names, used, strict=True) if is_used}
    for made_before in ("text_embedding", "image_embedding", "projection", "k_image", "v_image"):
        hits = [name for name in read if f"'{made_before}'" in name and "time" not in name]
        assert not hits, hits
    assert any("'self_attention'" in name for name in read)


def owned(dit, params, features) -> Own:
    sound = jnp.stack([slots(dit, params, each, WINDOWS.window) for each in features])
    return Own(sound, jnp.zeros(len(sound), int))


def _used_inputs(closed) -> list[bool]:
    """Which inputs of a jaxpr some equation (looked into, where it is a jaxpr of its own) reads."""
    from jax.interpreters import partial_eval as pe

    _, used = pe.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return used


def source(dit, params, plan) -> Source:
    given, z = conditions(plan.count), jax.random.normal(jax.random.key(0), (plan.padded + 9, *SHAPE))
    return Source(
        noise=lambda start, count: z[start : start + count],
        sounds=lambda first: iter(owned(dit, params, given.audio[first:]).sound),
        shared=share(dit, params, given, TOKENS),
    )  # fmt: skip


def test_wavefront_equals_plain_to_rounding(dit, params):
    """With the transformer, in which other numbers of rows add in another order: within 2e-5 of values around 1."""
    velocity, plan = make_velocity(dit, guidance.audio_native()), WINDOWS.plan(17)
    made = []
    for make, rows in ((make_plain, 1), (make_wavefront, 2)):
        denoise = make(velocity, solvers.solver("unipc", 3), dataclasses.replace(WINDOWS, rows=rows), join=join)
        made.append(np.concatenate([block.z for block in denoise([source(dit, params, plan)])])[: plan.padded])
    assert len(made[0]) == 17 and np.abs(made[0]).std() > 0.1
    np.testing.assert_allclose(made[1], made[0], atol=2e-5, rtol=2e-5)


def test_one_trace_for_every_length(dit, params, monkeypatch):
    traces = []
    velocity = make_velocity(dit, guidance.audio_native())
    counted = lambda *args: (traces.append(1), velocity(*args))[1]  # noqa: E731
    run = make_plain(without_memory(counted), solvers.solver("unipc", 2), WINDOWS)
    for frames in (3, 9, 20):
        plan = WINDOWS.plan(frames)
        assert all(np.isfinite(block.z).all() for block in run([source(dit, params, plan)]))
    assert len(traces) == 1


@pytest.mark.parametrize("neutral", [guidance.audio_native(0, 0), guidance.cfg(1, 1)])
def test_neutral_guidance_is_one_plain_evaluation(dit, params, neutral):
    given = conditions(2)
    shared, own = share(dit, params, given, TOKENS), owned(dit, params, given.audio)
    z = jax.random.normal(jax.random.key(1), (2, WINDOWS.window, *SHAPE))
    t = jnp.asarray([900.0, 300.0])
    assert len(neutral.branches) == 1
    plain = jax.jit(make_velocity(dit, guidance.none()))(shared, own, z, t)
    np.testing.assert_array_equal(jax.jit(make_velocity(dit, neutral))(shared, own, z, t), plain)


def test_rows_at_different_steps_and_windows_equal_the_rows_alone(dit, params):
    given = conditions(3)
    shared, own = share(dit, params, given, TOKENS), owned(dit, params, given.audio)
    velocity = jax.jit(make_velocity(dit, guidance.audio_native()))
    z = jax.random.normal(jax.random.key(2), (3, WINDOWS.window, *SHAPE))
    t = jnp.asarray([950.0, 500.0, 20.0])
    together = velocity(shared, own, z, t)
    for row in range(3):
        alone = velocity(shared, Own(own.sound[row : row + 1], own.video[:1]), z[row : row + 1], t[row : row + 1])
        np.testing.assert_allclose(together[row], alone[0], atol=2e-5, rtol=2e-5)


def test_rows_of_different_videos_equal_the_rows_alone(dit, params):
    """Each with the picture and the texts of its own video."""
    given = [dataclasses.replace(conditions(1), image=np.roll(conditions(1).image, by, 1)) for by in range(3)]
    given[1] = dataclasses.replace(given[1], text=given[1].text[::-1], reference=-given[1].reference)
    alone = [share(dit, params, each, TOKENS) for each in given]
    sound = owned(dit, params, conditions(3).audio).sound
    velocity = jax.jit(make_velocity(dit, guidance.audio_native()))
    z, t = jax.random.normal(jax.random.key(2), (3, WINDOWS.window, *SHAPE)), jnp.asarray([950.0, 500.0, 20.0])
    videos = jnp.asarray([2, 0, 1])
    together = velocity(join(alone), Own(sound, videos), z, t)
    for row, video in enumerate(videos):
        one = slice(row, row + 1)
        expected = velocity(alone[video], Own(sound[one], jnp.zeros(1, int)), z[one], t[one])
        np.testing.assert_allclose(together[row], expected[0], atol=2e-5, rtol=2e-5)
    assert np.abs(together[0] - velocity(alone[0], Own(sound[:1], jnp.zeros(1, int)), z[:1], t[:1])[0]).max() > 1e-3
