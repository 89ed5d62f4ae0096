import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from stableavatar_jax.diffusion import flow


def test_noise_of_a_frame_is_the_same_in_every_length_and_start():
    key = jax.random.key(3)
    noise = flow.frame_noise(key, 0, 9, (2, 3))
    assert_array_equal(flow.frame_noise(key, 0, 4, (2, 3)), noise[:4])
    assert_array_equal(jax.jit(lambda start: flow.frame_noise(key, start, 3, (2, 3)))(5), noise[5:8])
    assert len(np.unique(noise)) == noise.size


def test_the_line_from_video_to_noise():
    x0, noise = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    s = jnp.array([0.0, 1.0, 0.25])
    x = flow.add_noise(x0, noise, s)
    assert_array_equal(x[0], x0[0])
    assert_array_equal(x[1], noise[1])
    velocity = flow.target_velocity(x0, noise)
    assert_allclose(x[2], x0[2] + 0.25 * velocity[2], atol=1e-6)


def test_shift_keeps_the_ends_and_follows_the_uniform_draw():
    assert (flow.shift(0.0, 5.0), flow.shift(1.0, 5.0), flow.shift(0.3, 1.0)) == (0, 1, 0.3)
    s = flow.draw_noise_level(jax.random.key(0), 20000, 5.0)
    quarters = np.array([0.25, 0.5, 0.75])
    assert_allclose(jnp.quantile(s, quarters), flow.shift(quarters, 5.0), atol=0.01)


@pytest.mark.parametrize("rule", ["release", "wan", "wan_twice"])
@pytest.mark.parametrize("steps", [1, 2, 50])
def test_schedules_fall_to_zero(rule, steps):
    s, t = flow.schedule(rule, steps, 5.0)
    assert s.shape == (steps + 1,) and t.shape == (steps,) and s[-1] == 0
    assert (np.diff(s) < 0).all() and 0.99 < s[0] <= 1 and (abs(t - 1000 * s[:-1]) < 1).all()


def test_impossible_schedules_are_refused():
    with pytest.raises(ValueError, match="at least one step"):
        flow.schedule("wan", 0, 5.0)
    with pytest.raises(ValueError, match="at least one step"):
        flow.schedule("wan", 4, 0.0)
