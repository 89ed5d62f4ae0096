"""Flow matching: the straight line from video to noise, its noise levels, and the noise itself.

A noise level s runs from 0 (video) to 1 (noise); the network's time input is `1000 * s`.
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Array, Float, Int, Key

LEVELS = 1000  # noise levels the backbone was trained on

Rule = Literal["release", "wan", "wan_twice"]


def shift(u: Any, k: float) -> Any:
    """Noise level `k*u / (1 + (k-1)*u)`: moves levels in 0..1 towards noise for k > 1, the ends stay."""
    return k * u / (1 + (k - 1) * u)


def add_noise(x0: Float[Array, "*shape"], noise: Float[Array, "*shape"], s: Float[Array, "..."]) -> Array:
    """The point `(1-s) x0 + s noise` of the line. The axes of `s` are the leading axes of `x0`."""
    s = s.reshape(s.shape + (1,) * (x0.ndim - s.ndim))
    return (1 - s) * x0 + s * noise


def target_velocity(x0: Float[Array, "*shape"], noise: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The network's target: `noise - x0`, the same at every noise level."""
    return noise - x0


def training_level(index: Any, k: float = 5.0) -> Any:
    """Noise level at an index 0..999 of the training table, which falls from 1 and is shifted once (release)."""
    return shift((LEVELS - index) / LEVELS, k)


def strata(rows: int) -> Int[np.ndarray, "rows 2"]:
    """Range of training levels (first, one past the last) that each row of a batch draws from.

    As the release spreads its devices: the rows fall into groups, as many as divide both them and the levels, and each
    group has a share of the levels to itself. A batch then holds low and high noise alike.
    """
    groups = max(n for n in range(1, rows + 1) if rows % n == 0 and LEVELS % n == 0)
    group, width = np.arange(rows) // (rows // groups), LEVELS // groups
    return np.stack([group * width, (group + 1) * width], axis=1)


def draw_noise_level(key: Key[Array, ""], rows: int, k: float = 5.0) -> Float[Array, "rows"]:
    """Noise levels of a training step, `shift(uniform, k)`, the uniform draw of each row from its own stratum."""
    first, last = jnp.asarray(strata(rows), jnp.float32).T / LEVELS
    return shift(jax.random.uniform(key, (rows,), minval=first, maxval=last), k)


def frame_noise(
    key: Key[Array, ""], start: int | Int[Array, ""], count: int, shape: tuple[int, ...]
) -> Float[Array, "count ..."]:
    """Noise of the latent frames `start .. start+count-1`, float32, each of `shape`.

    Frame i is drawn from `fold_in(key, i)`, so it is the same in every order, length and restart.
    """
    draw = lambda i: jax.random.normal(jax.random.fold_in(key, i), shape)  # noqa: E731
    return jax.vmap(draw)(start + jnp.arange(count))


def step_noise(
    key: Key[Array, ""], step: Int[Array, ""], start: Int[Array, ""], count: int, shape: tuple[int, ...]
) -> Float[Array, "count ..."]:
    """New noise of latent frames behind a step, as `frame_noise`, drawn from `fold_in(key, 2**32 - 1 - step)`."""
    return frame_noise(jax.random.fold_in(key, jnp.uint32(2**32 - 1) - step.astype(jnp.uint32)), start, count, shape)


def schedule(rule: Rule, steps: int, k: float) -> tuple[np.ndarray, np.ndarray]:
    """Noise levels `s [steps+1]`, falling to 0, and the network's time inputs `t [steps]`; both float32.

    * `release`: Euler's tables in StableAvatar (diffusers' flow-matching Euler). Levels are spaced evenly between the
      ends of the training table, which is shifted already, then shifted once more; zero is appended.
    * `wan`: UniPC's and DPM++'s in Wan2.1. Levels are spaced evenly from 0.999 to 0 and shifted once; the time inputs
      are cut to whole numbers.
    * `wan_twice`: the same from a shifted 0.999, as those two classes do when they are built with a shift.
    """
    if rule not in get_args(Rule):
        raise Mistake(f"schedule {rule!r} is unknown; choose one of {', '.join(get_args(Rule))}")
    if steps < 1 or k <= 0:
        raise Mistake(f"steps={steps}, shift={k}: at least one step and a shift above 0 are needed")
    if rule == "release":
        lowest = shift(np.float32(1 / LEVELS), k)
        s = np.append(shift(np.linspace(1.0, float(lowest), steps), k), 0.0).astype(np.float32)
        return s, LEVELS * s[:-1]
    highest = np.float32(1 - 1 / LEVELS)
    if rule == "wan_twice":
        highest = shift(highest, k)
    s = shift(np.linspace(float(highest), 0.0, steps + 1), k)
    return s.astype(np.float32), np.trunc(LEVELS * s[:-1]).astype(np.float32)
