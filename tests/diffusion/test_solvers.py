import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from stableavatar_jax.diffusion import solvers

ALL = [
    ("euler", 1, None), *(("unipc", order, kind) for order in (1, 2, 3) for kind in ("bh1", "bh2")),
    *(("dpm++", order, kind) for order in (1, 2, 3) for kind in ("midpoint", "heun")),
]  # fmt: skip
step = jax.jit(solvers.step)


@pytest.mark.parametrize("name, order, variant", ALL)
def test_a_constant_velocity_is_integrated_exactly(name, order, variant):
    for steps in (1, 4, 16):
        solver = solvers.solver(name, steps, order=order, variant=variant)
        noise, velocity = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), jnp.float32)
        z, kept = noise, solvers.init(solver, noise)
        for i in range(steps):
            z, kept = step(solver, i, z, velocity, kept)
        assert_allclose(z, noise - solver.s[0] * velocity, atol=1e-5)


@pytest.mark.parametrize("name", ["unipc", "dpm++"])
def test_higher_orders_come_closer_to_the_exact_solution(name):
    """dz/ds = z has the solution z(0) = z(s) exp(-s). The last step, of order 1, bounds what order 3 gains."""
    error = {}
    for order in (1, 2, 3):
        solver = solvers.solver(name, 40, 1.0, order=order)
        z = jnp.ones(1)
        kept = solvers.init(solver, z)
        for i in range(solver.steps):
            z, kept = step(solver, i, z, z, kept)
        error[order] = abs(float(z[0]) * np.exp(float(solver.s[0])) - 1)
    assert error[2] < 0.25 * error[1] and error[3] < 0.25 * error[1]


@pytest.mark.parametrize("name, order", [("euler", 1), ("unipc", 3), ("dpm++", 3)])
def test_rows_at_different_steps_equal_the_same_rows_alone(name, order):
    solver = solvers.solver(name, 6, order=order)
    rng = np.random.default_rng(1)
    z, velocity, *kept = rng.normal(size=(1 + solver.table.shape[1], 4, 3, 2, 5)).astype(np.float32)
    kept = np.asarray(kept).reshape(-1, *z.shape)
    at = np.array([0, 5, 2, 3])
    together, kept_together = step(solver, at, z, velocity, kept)
    for row, i in enumerate(at):
        alone, kept_alone = step(solver, i, z[row], velocity[row], kept[:, row])
        assert_array_equal(together[row], alone)
        assert_array_equal(kept_together[:, row], kept_alone)
    per_frame, _ = step(solver, np.tile(at[:, None], (1, 3)), z, velocity, kept)
    assert_array_equal(per_frame, together)


def test_the_table_is_the_textbook_formula():
    """Euler adds (s' - s) v; second order DPM++ in its own symbols, at one step."""
    euler = solvers.solver("euler", 5)
    assert_allclose(euler.table[2], [[1, euler.s[3] - euler.s[2]]], rtol=1e-6)
    dpm = solvers.solver("dpm++", 20)
    s = np.asarray(dpm.s, np.float64)
    log_snr = np.log((1 - s[:-1]) / s[:-1])
    h, before = log_snr[6] - log_snr[5], log_snr[5] - log_snr[4]
    weight = -(1 - s[6]) * np.expm1(-h)
    x0, previous = np.array([1, -s[5], 0]), np.array([0, 0, 1])
    blended = (1 + h / (2 * before)) * x0 - h / (2 * before) * previous
    expected = s[6] / s[5] * np.array([1, 0, 0]) + weight * blended
    assert_allclose(dpm.table[5], [expected, x0], rtol=1e-5)


def test_unknown_solvers_are_refused():
    for wrong in ({"name": "heun"}, {"name": "unipc", "order": 4}, {"name": "euler", "variant": "bh2"}):
        with pytest.raises((ValueError, TypeError), match="unknown|order|variant|Type-check"):
            solvers.solver(**{"steps": 4, **wrong})
