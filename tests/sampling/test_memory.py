"""What a velocity remembers of a window travels with it, in both orders, through restarts, and beside other videos."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.sampling.plain import make_plain
from stableavatar_jax.sampling.program import Velocity
from stableavatar_jax.sampling.progress import Standing
from stableavatar_jax.sampling.wavefront import make_wavefront
from tests.sampling.test_wavefront import source, velocity

KIND = (0, 1, 0, 1, 1)
"""What the steps do: look, or remember."""
WINDOWS = WindowConfig(window=7, overlap=3, rows=2, batches=2)


def look(shared, own, z, t, memory):
    """Counts 1, and keeps what it sees."""
    calls, seen = memory
    return velocity(shared, own, z, t) + seen / 4 + calls.reshape(-1, 1, 1, 1, 1) / 8, (calls + 1, z)


def remember(shared, own, z, t, memory):
    """Counts 16, and leaves what was kept as it is."""
    calls, seen = memory
    return velocity(shared, own, seen, t) / 2 + calls.reshape(-1, 1, 1, 1, 1) / 8, (calls + 16, None)


@functools.lru_cache
def order(make, rows=2):
    way = Velocity((look, remember), KIND, lambda z: (jnp.zeros(len(z), jnp.int32), z + 1))
    config = WindowConfig(window=7, overlap=3, rows=rows, batches=2)
    return make(way, solvers.solver("unipc", len(KIND)), config, join=jnp.stack)


def made(denoise, sources, tell=lambda event: None, state=None):
    blocks = [[] for _ in sources]
    for number, _, z in denoise(sources, tell, state):
        blocks[number].append(z)
    return [np.concatenate(each) for each in blocks]


def test_orders_agree_with_several_videos():
    given = [source(WINDOWS, windows, seed) for seed, windows in enumerate([1, 9, 1, 2, 4])]
    together = made(order(make_wavefront, 3), given)
    for each, alone in zip(together, given, strict=True):
        length = WINDOWS.padded(alone.windows)
        assert_array_equal(each[:length], made(order(make_plain), [alone])[0][:length])


@pytest.mark.parametrize("make", [make_plain, make_wavefront])
def test_each_window_counts_its_own_evaluations(make):
    states = []
    keep = lambda event: states.append(event.state()) if isinstance(event, Standing) else None  # noqa: E731
    made(order(make), [source(WINDOWS, 6)], keep)
    calls = states[-1].arrays["memory 0"].reshape(-1)
    whole = sum((1, 16)[kind] for kind in KIND)
    if make is make_plain:
        assert calls[:6].tolist() == [whole] * 6
    else:  # the six have gone over the line's nine places, which is as long as K (S - 1) + 1
        assert len(calls) == 2 * 4 + 1 and (calls == whole).sum() == 6


@pytest.mark.parametrize("make", [make_plain, make_wavefront])
def test_restarts_carry_it(make):
    given, states = [source(WINDOWS, 5)], []
    keep = lambda event: states.append(event.state()) if isinstance(event, Standing) else None  # noqa: E731
    whole = made(order(make), given, keep)[0]
    assert len(states) > 8
    for state in states[:-1:3]:
        rest = made(order(make), given, state=state)[0]
        assert_array_equal(rest, whole[len(whole) - len(rest) :])
