"""The velocity of several branches: each as if it were evaluated alone, and what they share computed once."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.configs import tiny
from stableavatar_jax.diffusion.guidance import MAIN, Branch
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.models.avatar import part
from stableavatar_jax.sampling.program import Own
from stableavatar_jax.sampling.velocity import network, share, slots
from tests.params import random_params

MODEL = dataclasses.replace(tiny.model, dit=dataclasses.replace(tiny.model.dit, layers=2))
FRAMES, SIZE = 4, (2, 4)


@pytest.fixture(scope="module")
def case():
    dit, rng, c = part(MODEL, "dit"), np.random.default_rng(0), MODEL.dit
    normal = lambda *shape: rng.standard_normal(shape, np.float32)  # noqa: E731
    conditions = Conditions(
        text=normal(2, c.text_len, c.text_dim), text_mask=np.arange(c.text_len) < np.asarray([[5], [9]]),
        image=normal(7, c.image_dim), reference=normal(FRAMES, *SIZE, 20), audio=normal(2, 33, c.adapter.audio_dim),
    )  # fmt: skip
    params = random_params(dit)
    shared = share(dit, params, conditions, 33)
    own = Own(jnp.stack([slots(dit, params, each, FRAMES) for each in conditions.audio]), jnp.zeros(2, int))
    z, t = jnp.asarray(normal(2, FRAMES, *SIZE, 16)), jnp.float32([900, 300])
    parts = network(dit)

    def run(branches):
        embedded = parts.embed(shared, own, z, t)
        return parts.read_out(shared, embedded, parts.blocks(shared, own, embedded, branches))

    return jax.jit(run, static_argnums=0)


def test_branches_equal_evaluations_alone(case):
    branches = MAIN, Branch(text="negative", audio="silence"), Branch(text="negative", audio="dropped")
    together = case(branches)
    alone = np.concatenate([case((branch,)) for branch in branches], 1)
    np.testing.assert_allclose(together, alone, atol=2e-5, rtol=1e-5)
    assert np.abs(together[:, 1] - together[:, 2]).max() > 1e-3  # silence is not the same as no audio


@pytest.mark.parametrize("branches", [(MAIN,), (MAIN, Branch(audio="dropped"), Branch(text="negative"))])
def test_patches_levels_and_audio_are_read_once(case, branches):
    calls = []

    def spy(next_call, args, kwargs, context):
        if context.method_name in ("embed", "refine") and context.module.name is None:
            calls.append((context.method_name, len(args[0])))
        return next_call(*args, **kwargs)

    with nn.intercept_methods(spy):
        case.__wrapped__(branches)
    assert calls == [("embed", 2), ("refine", 2)]
