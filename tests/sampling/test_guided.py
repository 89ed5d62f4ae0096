"""Guidance that is kept and blocks that are left out: what each kind of step computes, and that both orders agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stableavatar_jax.diffusion import guidance, solvers
from stableavatar_jax.diffusion.reuse import Step, guided_steps
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.sampling import memory
from stableavatar_jax.sampling.front import KINDS, Front, Rows, make_advance
from stableavatar_jax.sampling.guided import Network, guided
from stableavatar_jax.sampling.plain import make_plain
from stableavatar_jax.sampling.program import Own
from stableavatar_jax.sampling.velocity import make_velocity, share
from stableavatar_jax.sampling.wavefront import make_wavefront
from tests.sampling.test_memory import made
from tests.sampling.test_program import SHAPE, TOKENS, WINDOWS, conditions, dit, owned, params  # noqa: F401
from tests.sampling.test_wavefront import source, velocity

FULL, MAIN, SKIP, MAIN_SKIP = Step(), Step(guided=False), Step(skipped=True), Step(False, True)
GUIDANCE = guidance.audio_native(0.5, 0.25)


class Tokens:
    """What `embed` gives."""

    def __init__(self, x, v):
        self.x, self.v = x, v


def blocks(shared, own, embedded, branches):
    """Knows all that the coupling velocity knows, and each branch moves it elsewhere."""
    moves = {"sound": 0, "silence": 1, "dropped": 2}
    return jnp.stack([embedded.x + embedded.v * 2.0 ** -moves[branch.audio] for branch in branches], 1)


NETWORK = Network(
    embed=lambda shared, own, z, t: Tokens(z / 2, velocity(shared, own, z, t)),
    blocks=blocks,
    read_out=lambda shared, embedded, tokens: tokens / 2,
    room=lambda z, branches: jnp.zeros((len(z), branches, *z.shape[1:])),
)
SCHEDULES = {
    "interval": ((MAIN, FULL, FULL, MAIN, MAIN), False),
    "cache": ((FULL, SKIP, SKIP, FULL, SKIP), False),
    "both": ((FULL, SKIP, MAIN, MAIN_SKIP, MAIN_SKIP), True),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_orders_agree(name):
    schedule, reuse = SCHEDULES[name]
    config = WindowConfig(window=7, overlap=3, rows=2, batches=2)
    way = guided(NETWORK, GUIDANCE, schedule, reuse=reuse)
    plain, wavefront = (
        make(way, solvers.solver("unipc", len(schedule)), config, join=jnp.stack)
        for make in (make_plain, make_wavefront)
    )
    given = [source(config, windows, seed) for seed, windows in enumerate([1, 5, 2])]
    for each, alone in zip(made(wavefront, given), given, strict=True):
        length = config.padded(alone.windows)
        assert_array_equal(each[:length], made(plain, [alone])[0][:length])


def test_each_kind_by_hand():
    """Branches move by v, v/2 and v/4; what a step keeps is used by the next ones."""
    way = guided(NETWORK, GUIDANCE, SCHEDULES["both"][0], reuse=True)
    full, skip, main, main_skip = way.kinds
    assert way.kind == (0, 1, 2, 3, 3)
    rng = np.random.default_rng(0)
    z, later = (jnp.asarray(rng.normal(size=(2, 7, 2, 3, 4)), jnp.float32) for _ in range(2))
    context = np.float32([1.0]), Own(jnp.ones((2, 7)), jnp.zeros(2, int))
    v, v_later = (np.asarray(velocity(*context, x, jnp.ones(2))) for x in (z, later))
    weights = np.float32(GUIDANCE.coefficients) @ np.float32([1, 0.5, 0.25])
    one, remembered = full(*context, z, jnp.ones(2), way.init(z))
    np.testing.assert_allclose(one, z / 4 + v * weights / 2, atol=1e-6)
    for kind, base, moved, factor in (
        (skip, later, v, weights / 2),
        (main_skip, later, v, 0.5 + (weights - 1) / 2),
        (main, later, v_later, 0.5),  # the last, as what it keeps is looked at below
    ):
        two, kept = kind(*context, later, jnp.ones(2), remembered)
        difference = v * (weights - 1) / 2 if kind is main else 0
        np.testing.assert_allclose(two, base / 4 + moved * factor + difference, atol=1e-6)
        assert (kept.added is None, kept.difference is None) == (kind is not main, kind is not skip)
    assert_array_equal(kept.added[:, 1:], remembered.added[:, 1:])  # of the branches that did not run
    assert np.abs(kept.added[:, 0] - remembered.added[:, 0]).max() > 0.1


def test_memory_is_changed_in_its_place():
    """No kind of step copies what is kept of all windows on the line, which may be most of a device's memory."""
    config, solver = WindowConfig(window=7, overlap=3, batches=1), solvers.solver("euler", 50)
    way = guided(NETWORK, GUIDANCE, (FULL, SKIP, MAIN, MAIN_SKIP) + (SKIP,) * 46, reuse=True)
    z, shape = jnp.zeros((50, 8, *SHAPE)), (7, *SHAPE)
    kept = memory.begin(way, 99, shape)
    front = Front(z, solvers.init(solver, z), jnp.zeros((50, 3, *SHAPE)), jnp.zeros((99, 7)), kept)
    rows = Rows(*(np.zeros((1, 1), kind) for kind in KINDS))
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(kept))
    for kind in range(len(way.kinds)):
        compiled = make_advance(way, solver, config, kind=kind).lower(front, rows, jnp.ones(1)).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < whole / 4, way.kinds[kind]


def test_one_branch_of_guidance_leaves_nothing_to_reuse():
    way = guided(NETWORK, guidance.none(), (FULL, MAIN, MAIN), reuse=True)
    assert len(way.kinds) == 1 and way.init(jnp.zeros((1, 7, 2, 3, 4))) == ()
    assert guided(NETWORK, GUIDANCE, (FULL,) * 3, reuse=True).init(jnp.zeros((1, 7, 2, 3, 4))) == ()


@pytest.fixture(scope="module")
def case(dit, params):  # noqa: F811
    """The arguments of the tiny transformer's velocity for five windows, and the velocity with every kind."""
    given = conditions(5)
    z = jax.random.normal(jax.random.key(1), (5, WINDOWS.window, *SHAPE))
    arguments = share(dit, params, given, TOKENS), owned(dit, params, given.audio), z, jnp.linspace(900, 100, 5)
    return arguments, make_velocity(dit, GUIDANCE, None, (FULL, SKIP, MAIN, MAIN_SKIP), reuse=True)


def test_a_step_is_compiled_for_what_it_needs(case):
    """Five windows of three branches are fifteen rows; one branch alone is five, and what is left out is not read."""
    arguments, way = case
    kept = way.init(arguments[2])
    for kind, step in zip(way.kinds, (FULL, SKIP, MAIN, MAIN_SKIP), strict=True):
        text = jax.jit(kind).lower(*arguments, kept).as_text()
        assert ("tensor<15x" in text) == step.guided
        traced = jax.make_jaxpr(kind)(*arguments, kept)
        from jax.interpreters import partial_eval as pe

        _, used = pe.dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
        paths = jax.tree_util.tree_leaves_with_path((*arguments, kept))
        read = {jax.tree_util.keystr(path) for (path, _), is_used in zip(paths, used, strict=True) if is_used}
        for part in ("'blocks'", "'audio_adapter'", ".sound"):
            assert any(part in name for name in read) != step.skipped, (part, step)
        assert any("'head'" in name for name in read)


def test_a_cache_that_skips_nothing_changes_nothing(case, dit):  # noqa: F811
    arguments, way = case
    plain = jax.jit(make_velocity(dit, GUIDANCE))(*arguments)
    kept = way.init(arguments[2])
    v, kept = jax.jit(way.kinds[0])(*arguments, kept)
    assert_array_equal(v, plain)
    # At the same place, what is left out is what would be added; the main branch stands for all.
    for kind in way.kinds[1:]:
        np.testing.assert_allclose(jax.jit(kind)(*arguments, kept)[0], plain, atol=3e-5, rtol=1e-5)
    assert guided_steps(4, 0.0, 0.5) == (True, True, False, False)
