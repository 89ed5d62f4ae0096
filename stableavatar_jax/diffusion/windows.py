"""Video of any length: overlapping windows, whose velocities are fused into one for the whole video (paper 3.3).

At each step every window predicts from its frames of the same latents; where windows overlap the predictions are
blended from left to right; then the solver takes one ordinary step on all frames. Walked in order, a window needs of
those before it only the blended velocities of the frames it shares with them: the tail.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.solvers import Solver
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import FRAMES_PER_LATENT
from stableavatar_jax.shapes import Array, Float

Fusion = Literal["logarithmic", "linear", "fixed"]
VelocityFn = Callable[[Any, Any, Array, Array], Array]
"""`velocity(context, sound, z [R F H W C], t [R]) -> [R F H W C]`: the guided velocity of R windows.

`context` is what all windows share (parameters, picture, text), `sound` what each has for itself, its arrays with a
leading axis R; `t` is the network's time input, 1000 at noise."""


@dataclass(frozen=True)
class WindowPlan:
    """The windows that cover `frames` latent frames: whole, one stride apart, the last may reach past the end.

    `overlap` frames are shared by neighbours: 0, or 2 to window-1 (of a single shared frame the first and the last,
    which take weights 0 and 1, would be the same). Raises ValueError for sizes that cannot be.
    """

    frames: int
    window: int = 21
    overlap: int = 10

    def __post_init__(self):
        if self.frames < 1 or self.window < 1:
            raise Mistake(f"{self.frames} latent frames in windows of {self.window}: both must be at least 1")
        if not (self.overlap == 0 or 2 <= self.overlap < self.window):
            raise Mistake(
                f"overlap {self.overlap} is impossible for windows of {self.window} latent frames: choose 0, or 2 to "
                f"{self.window - 1} (5 to 15 are advised for windows of 21)"
            )

    @property
    def stride(self) -> int:
        """Latent frames from one window's start to the next one's."""
        return self.window - self.overlap

    @property
    def count(self) -> int:
        """Number of windows W."""
        return 1 + max(0, math.ceil((self.frames - self.window) / self.stride))

    @property
    def padded(self) -> int:
        """Latent frames the windows cover; those past `frames` are computed and cut off."""
        return self.window + (self.count - 1) * self.stride

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First latent frame of every window."""
        return tuple(range(0, self.count * self.stride, self.stride))

    @cached_property
    def video_starts(self) -> tuple[int, ...]:
        """Video frame at which the sound of every window starts."""
        return tuple(FRAMES_PER_LATENT * start for start in self.starts)



def fusion_weights(overlap: int, kind: Fusion = "logarithmic") -> Float[Array, "overlap"]:
    """Share of the later window in the frames it shares with those before it.

    From 0 to 1 along `log(1 + x(e-1))` (paper 3.3) or along x, or one half throughout (paper Table 8).
    """
    if kind not in get_args(Fusion):
        raise Mistake(f"fusion {kind!r} is unknown; choose one of {', '.join(get_args(Fusion))}")
    x = np.linspace(0, 1, overlap)
    weights = {"logarithmic": np.log1p(x * (math.e - 1)), "linear": x, "fixed": np.full(overlap, 0.5)}[kind]
    return jnp.asarray(weights, jnp.float32)


def fuse(
    tail: Float[Array, "overlap *rest"], velocity: Float[Array, "F *rest"], weights: Float[Array, "overlap"]
) -> tuple[Float[Array, "overlap *rest"], Float[Array, "stride *rest"]]:
    """Blend a window's first velocities with the tail before it; its new tail, and the frames no window will change.

    The tail is already blended itself, so any overlap is right, also where more than two windows meet.
    """
    overlap = len(weights)
    weights = weights.reshape(-1, *(1,) * (velocity.ndim - 1))
    fused = jnp.concatenate([weights * velocity[:overlap] + (1 - weights) * tail, velocity[overlap:]])
    return fused[len(fused) - overlap :], fused[: len(fused) - overlap]


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How a video is cut into windows and how they are fused and batched."""

    window: int = 21
    """Latent frames the network sees at once."""
    overlap: int = 10
    """Latent frames two neighbouring windows share: 0 (independent windows) or 2 to window-1 (paper: 5 to 15)."""
    fusion: Fusion = "logarithmic"
    """Weights over the shared frames."""
    first_fused_step: int = 0
    """Before this step the later window overwrites the shared frames (the release: 1)."""
    rows: int = 1
    """Windows evaluated at once: more memory, fewer and larger evaluations."""
    batches: int = 4
    """Micro-batches of `rows` windows one call of the program runs; fewer give finer progress, never other values."""

    def plan(self, frames: int) -> WindowPlan:
        """The windows over so many latent frames."""
        return WindowPlan(frames, self.window, self.overlap)

    @property
    def part(self) -> tuple[int, int]:
        """Micro-batches and windows of one call; its frames reach at least as far as a tail."""
        stride = self.plan(1).stride
        batches = max(self.batches, math.ceil(self.overlap / (stride * self.rows)))
        return batches, batches * self.rows


class Part(NamedTuple):
    """A stretch of the video: as many strides as one call of the program steps."""

    z: Float[Array, "P H W C"]
    """Latents, float32."""
    kept: Float[Array, "Q P H W C"]
    """What the solver keeps of earlier steps."""


def make_sweep(velocity: VelocityFn, solver: Solver, config: WindowConfig) -> Callable[..., tuple[Part, Array, Array]]:
    """The denoising program: one step of one part of the video. Compiled once for videos of every length.

    `sweep(part, ahead, tail, i, first, count, context, sound)` gives the stepped part, the new tail and whether all
    velocities were finite. `ahead` are the `overlap` frames after the part, before their step; `tail` is what the
    part before left; `i` the step; `first` the number of the part's first window, `count` that of all windows. The
    network is not run for windows from `count` on: there the tail runs out. Part and tail are donated.
    """
    batches, _ = config.part
    stride, rows = config.window - config.overlap, config.rows
    weights = fusion_weights(config.overlap, config.fusion)
    within = jnp.arange(rows)

    def sweep(part: Part, ahead: Array, tail: Array, i: Array, first: Array, count: Array, context: Any, sound: Any):
        frames = jnp.concatenate([part.z, ahead])
        t = jnp.broadcast_to(solver.t[i], rows)

        def batch(tail: Array, xs: tuple[Array, Any]) -> tuple[Array, Array]:
            start, sound = xs
            z = frames[((start + within) * stride)[:, None] + jnp.arange(config.window)]
            number = first + start + within
            live = number < count
            predict = lambda: velocity(context, sound, z, t).astype(jnp.float32)  # noqa: E731
            v = jax.lax.cond(live[0], predict, lambda: jnp.zeros(z.shape, jnp.float32))
            v = jnp.where(live.reshape(-1, *(1,) * (z.ndim - 1)), v, 0)
            alone = (number == 0) | (i < config.first_fused_step)
            share = jnp.where(alone[:, None], 1, weights) * live[:, None]
            return jax.lax.scan(lambda tail, row: fuse(tail, *row), tail, (v, share))

        tail, v = jax.lax.scan(batch, tail, (jnp.arange(batches) * rows, sound))
        v = v.reshape(part.z.shape)
        return Part(*solvers.step(solver, i, part.z, v, part.kept)), tail, jnp.isfinite(v).all()

    return jax.jit(sweep, donate_argnums=(0, 2), compiler_options=compiler_options(jax.default_backend()))


def make_denoise(velocity: VelocityFn, solver: Solver, config: WindowConfig) -> Callable[..., Array]:
    """The loop over all steps and windows, in order, on a host that never waits.

    `denoise(z, context, sound, report=None)` turns noise z [N H W C] into latents without noise, float32. N is the
    `padded` length of a plan, `sound` a tree of arrays with a leading axis of the plan's `count`; ValueError if not.
    `report(step, windows done, finite)` is called after each call of the program. To show progress, or not to run far
    ahead of the device, it may wait for the `finite` of an earlier call.
    """
    sweep = make_sweep(velocity, solver, config)
    batches, windows = config.part

    def denoise(z: Array, context: Any, sound: Any, report: Callable[[int, int, Array], None] | None = None) -> Array:
        plan = config.plan(len(z))
        lengths = {len(x) for x in jax.tree.leaves(sound)}
        if len(z) != plan.padded or lengths - {plan.count}:
            raise Mistake(
                f"{len(z)} latent frames and sound for {sorted(lengths)} windows are no whole windows of {plan.window} "
                f"with overlap {plan.overlap}; {plan.padded} frames and {plan.count} windows would be"
            )
        size = windows * plan.stride
        count = math.ceil(plan.padded / size)
        z = _divide(z.astype(jnp.float32), count, size)
        parts = [Part(z[p], solvers.init(solver, z[p])) for p in range(count)]
        sound = jax.tree.map(lambda x: _divide(x, count, batches, config.rows), sound)
        sounds = [jax.tree.map(lambda x, p=p: x[p], sound) for p in range(count)]
        shared = (plan.overlap, *z.shape[2:])
        for i in range(solver.steps):
            tail = jnp.zeros(shared)
            for p in range(count):
                ahead = parts[p + 1].z[: plan.overlap] if p + 1 < count else jnp.zeros(shared)
                parts[p], tail, finite = sweep(parts[p], ahead, tail, i, p * windows, plan.count, context, sounds[p])
                if report:
                    report(i, min((p + 1) * windows, plan.count), finite)
        return jnp.concatenate([part.z for part in parts])[: plan.padded]

    return denoise


def _divide(x: Any, *shape: int) -> Any:
    """The leading axis filled up with zeros and divided into `shape`."""
    xp = np if isinstance(x, np.ndarray) else jnp  # what lies on the host stays there until its turn
    missing = math.prod(shape) - len(x)
    return xp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1))).reshape(*shape, *x.shape[1:])
