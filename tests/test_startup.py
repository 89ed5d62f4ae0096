"""Where the time to the first step goes: what is counted, and once."""

import time

import jax
import jax.numpy as jnp
import pytest

from stableavatar_jax import startup


@pytest.fixture
def spent(monkeypatch):
    startup.watch()
    monkeypatch.setattr(startup, "SPENT", startup.Spent())
    return startup.SPENT


def test_programs_within_programs_are_counted_once(spent):
    inner = jax.jit(lambda x: jnp.sin(x) * 3)
    start = time.perf_counter()
    jax.jit(lambda x: inner(x) + inner(2 * x))(jnp.ones(7)).block_until_ready()
    assert 0 < spent.compiling <= time.perf_counter() - start
    assert spent.programs >= 1


def test_weights_are_counted_without_what_is_compiled_for_them(spent):
    with startup.weights():
        time.sleep(0.02)
        jax.jit(lambda x: jnp.cos(x) + 5)(jnp.ones(3)).block_until_ready()
        whole = spent.compiling
    assert spent.weights >= 0.02
    assert whole > 0 and f"weights {spent.weights:.1f}, compiling {spent.compiling:.1f}" in startup.told()
