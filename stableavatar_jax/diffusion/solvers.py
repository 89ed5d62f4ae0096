"""Euler, UniPC and DPM++ as one step read from a table.

Every step of these solvers maps what is known (the latents z, the velocity, what was kept of earlier steps)
linearly to what is known next. So a solver is one small matrix per step: `step` gathers the matrices of its rows by
step index, and rows (or latent frames) at different steps share a batch. The matrices are worked out once, in
float64, by writing each solver's formula with unit vectors in place of arrays.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np

from stableavatar_jax.diffusion.flow import Rule, schedule
from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Array, Float, Int

Name = Literal["euler", "unipc", "dpm++"]
Variant = Literal["bh1", "bh2", "midpoint", "heun"]
VARIANTS: dict[str, tuple[Variant, ...]] = {"euler": (), "unipc": ("bh2", "bh1"), "dpm++": ("midpoint", "heun")}


class Solver(NamedTuple):
    """A solver of S steps which keeps Q arrays of earlier steps; a pytree of float32 arrays."""

    s: Float[Array, "S+1"]
    """Noise levels before each step, then the final 0."""
    t: Float[Array, "S"]
    """The network's time input at each step."""
    table: Float[Array, "S 1+Q 2+Q"]
    """Row r of step i: coefficients of (z, velocity, kept...) in the next z (r = 0) or in what is kept (r > 0)."""
    noise: Float[Array, "S"] | None = None
    """Share of new noise in the next z; None where no step adds any."""

    @property
    def steps(self) -> int:
        """Number of steps S."""
        return self.t.shape[0]


def solver(
    name: Name, steps: int, shift: float = 5.0, *, order: int = 2, rule: Rule | None = None,
    variant: Variant | None = None, levels: Sequence[float] = (), renoise: bool = False,
) -> Solver:
    """The table of a solver.

    `order` (1 to 3) and `variant` (UniPC: bh2 or bh1; DPM++: midpoint or heun; first the default) are not Euler's.
    `rule` chooses the noise levels (`flow.schedule`); by default each solver has those it is released with.
    `levels` are noise levels before each step, as they are, in place of steps and shift. With `renoise`, Euler's step
    goes to the video that it predicts and adds new noise of the next level.
    Raises Mistake for names and orders that do not exist, and for levels that a solver cannot begin at.
    """
    if name not in get_args(Name):
        raise Mistake(f"solver {name!r} is unknown; choose one of {', '.join(get_args(Name))}")
    if order not in (1, 2, 3):
        raise Mistake(f"solver order {order} is not one of 1, 2, 3")
    if variant is not None and variant not in VARIANTS[name]:
        raise Mistake(f"{name} has no variant {variant!r}; it has: {', '.join(VARIANTS[name]) or 'none'}")
    if name != "euler" and (renoise or max(levels, default=0) >= 1):
        raise Mistake(f"{name} adds no noise, and levels begin below 1 for it; take euler")
    if levels:
        s = np.asarray([*levels, 0.0], np.float32)
        t, steps = 1000 * s[:-1], len(levels)
    else:
        s, t = schedule(rule or ("release" if name == "euler" else "wan"), steps, shift)
    exact = s.astype(np.float64)  # the rounded levels: 1 - s is tiny at the start, and must be that of these s
    if name == "euler":
        table = [(_renoised if renoise else _euler)(i, exact) for i in range(steps)]
    elif name == "unipc":
        table = [_unipc(i, exact, order, variant or "bh2") for i in range(steps)]
    else:
        table = [_dpm(i, exact, order, variant or "midpoint") for i in range(steps)]
    noise = jnp.asarray(s[1:]) if renoise else None
    return Solver(jnp.asarray(s), jnp.asarray(t), jnp.asarray(np.asarray(table), jnp.float32), noise)


def init(solver: Solver, z: Float[Array, "*shape"]) -> Float[Array, "Q *shape"]:
    """What is kept before the first step: Q arrays of zeros like `z`, float32."""
    return jnp.zeros((solver.table.shape[1] - 1, *z.shape), jnp.float32)


def step(
    solver: Solver,
    i: int | Int[Array, "..."],
    z: Float[Array, "*shape"],
    velocity: Float[Array, "*shape"],
    kept: Float[Array, "Q *shape"],
    noise: Float[Array, "*shape"] | None = None,
) -> tuple[Float[Array, "*shape"], Float[Array, "Q *shape"]]:
    """One step: the latents at the next noise level, float32, and what to keep.

    `i` is the step index: one number, or one per row, or one per latent frame; its axes are the leading axes of `z`.
    `noise` is new noise, for a solver that adds it.
    """
    i = jnp.asarray(i)
    known = (z.astype(jnp.float32), velocity.astype(jnp.float32), *kept)
    coefficients = jnp.expand_dims(solver.table[i], tuple(range(i.ndim, z.ndim)))  # [*z.shape or 1, 1+Q, 2+Q]
    # Multiply and add, no matrix product: accelerators may round a product's factors to bfloat16.
    new = [sum(coefficients[..., row, k] * x for k, x in enumerate(known)) for row in range(len(known) - 1)]
    if solver.noise is not None and noise is not None:
        new[0] = new[0] + jnp.expand_dims(solver.noise[i], tuple(range(i.ndim, z.ndim))) * noise
    return new[0], jnp.stack(new[1:]) if new[1:] else kept


def _euler(i: int, s: np.ndarray) -> list[np.ndarray]:
    z, velocity = np.eye(2)
    return [z + (s[i + 1] - s[i]) * velocity]


def _renoised(i: int, s: np.ndarray) -> list[np.ndarray]:
    """The predicted video's share in the next z; the rest of it is new noise."""
    z, velocity = np.eye(2)
    return [(1 - s[i + 1]) * (z - s[i] * velocity)]


def _dpm(i: int, s: np.ndarray, order: int, variant: Variant) -> list[np.ndarray]:
    """DPM-Solver++ multistep (Lu et al. 2022), in flow form: data fraction 1-s, noise fraction s.

    The first steps have the order their past allows, the last is of order 1; with fewer than 15 steps the one before
    it is of order 2 at most.
    """
    z, velocity, *past = np.eye(order + 1)
    steps = len(s) - 1
    x0 = [z - s[i] * velocity, *past]
    order = 1 if i == steps - 1 else min(order, i + 1, 2 if i == steps - 2 and steps < 15 else 3)
    h = _log_snr(s[i + 1]) - _log_snr(s[i])
    new = _exponential_step(z, x0[0], s[i], s[i + 1])
    data, decay = 1 - s[i + 1], math.expm1(-h)
    if order > 1:
        log_snr = [_log_snr(s[i - j]) for j in range(order)]
        r = [(log_snr[j] - log_snr[j + 1]) / h for j in range(order - 1)]
        slope = [(x0[j] - x0[j + 1]) / r[j] for j in range(order - 1)]
        first = slope[0]
        if order == 3:
            bend = (slope[0] - slope[1]) / (r[0] + r[1])
            first = slope[0] + r[0] * bend
            new = new - data * ((decay + h) / h**2 - 0.5) * bend
        # The third-order step has one form, the second-order step two.
        halved = order == 2 and variant == "midpoint"
        new = new + data * (-decay / 2 if halved else decay / h + 1) * first
    return [new, *x0[: len(past)]]


def _unipc(i: int, s: np.ndarray, order: int, variant: Variant) -> list[np.ndarray]:
    """UniPC (Zhao et al. 2023) in flow form: corrects where it is by the new velocity, then predicts the next z.

    Kept are the corrected latents of the step before and its last predictions of x0. The corrector has the order of
    the predictor it corrects; orders rise over the first steps and fall to 1 at the last.
    """
    z, velocity, start, *past = np.eye(3 + order)
    now = z - s[i] * velocity
    steps = len(s) - 1
    if i > 0:
        z = _unipc_update(start, past[: min(order, i, steps - i + 1)], s[: i + 1][::-1], variant, corrector=now)
    x0 = [now, *past]
    new = _unipc_update(z, x0[: min(order, i + 1, steps - i)], s[: i + 2][::-1], variant)
    return [new, z, *x0[: len(past)]]


def _unipc_update(
    z: np.ndarray, x0: Sequence[np.ndarray], s: np.ndarray, variant: Variant, corrector: np.ndarray | None = None
) -> np.ndarray:
    """From z at noise level s[1] to s[0]; x0 are the predictions at s[1], s[2], ...; `corrector` is that at s[0]."""
    log_snr = [_log_snr(level) for level in s[: len(x0) + 1]]
    h = log_snr[0] - log_snr[1]
    r = [(log_snr[j + 1] - log_snr[1]) / h for j in range(1, len(x0))]
    differences = [(x - x0[0]) / at for x, at in zip(x0[1:], r, strict=True)]
    if corrector is not None:
        differences, r = [*differences, corrector - x0[0]], [*r, 1.0]
    new = _exponential_step(z, x0[0], s[1], s[0])
    if not differences:
        return new
    scale = math.expm1(-h) if variant == "bh2" else -h
    moments, phi = [], math.expm1(-h) / -h - 1
    for k in range(1, len(r) + 1):
        moments.append(phi * math.factorial(k) / scale)
        phi = phi / -h - 1 / math.factorial(k + 1)
    # With one difference the released solver takes 1/2, the limit of small steps.
    weights = [0.5] if len(r) == 1 else np.linalg.solve(np.vander(r, increasing=True).T, moments)
    return new - (1 - s[0]) * scale * sum(w * d for w, d in zip(weights, differences, strict=True))


def _exponential_step(z: np.ndarray, x0: np.ndarray, s: float, s_next: float) -> np.ndarray:
    """The exact step for an x0 that stays as it is: `(s'/s) z + (1 - s' - (1-s) s'/s) x0`, i.e. `z + (s'-s) v`."""
    ratio = s_next / s
    return ratio * z + (1 - s_next - (1 - s) * ratio) * x0


def _log_snr(s: float) -> float:
    return math.inf if s == 0 else math.log((1 - s) / s)
