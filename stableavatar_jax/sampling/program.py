"""The denoising program: R windows, each at its own step, through the network, fusion and the solver.

It knows neither the order in which windows are visited nor how long a video is. `plain.py` walks a video step by step
with it, `wavefront.py` many steps at once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.flow import step_noise
from stableavatar_jax.diffusion.fusion import fuse, fusion_weights
from stableavatar_jax.diffusion.solvers import Solver
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Array, Float, Int

IN_FLIGHT = 2
"""Calls of the program that wait for the device while the host prepares the next one."""

VelocityFn = Callable[[Any, Any, Array, Array], Array]
"""`velocity(shared, own, z [R F H W C], t [R]) -> [R F H W C]`: the guided velocity of R windows.

`shared` is what the windows share (parameters, the videos' pictures and texts), `own` what each has for itself
(`Own`); `t` is the network's time input, 1000 at noise."""

Apply = Callable[[Any, Any, Array, Array, Any], tuple[Array, Any]]
"""`apply(shared, own, z, t, memory) -> velocity, changes`: the same, with what the windows remember of their earlier
steps, a tree whose leaves lead with the windows, `[R ...]`; and the same tree as it is afterwards, with None for leaves
that stay."""


@dataclass(frozen=True, eq=False)
class Velocity:
    """A guided velocity with a memory, as pure functions; each step takes one of several kinds of evaluation."""

    kinds: tuple[Apply, ...]
    """Every kind is compiled for itself."""
    kind: tuple[int, ...] = ()
    """The kind that each step takes; without it all take the first."""
    init: Callable[[Array], Any] = lambda z: ()
    """`init(z [R F H W C]) -> memory`: that of windows before their first step."""
    place: Sharding | None = None
    """Where on a mesh it leaves what it makes: a program whose inputs lie there is compiled once."""

    def at(self, step: int) -> int:
        """The kind that a step takes."""
        return self.kind[step] if self.kind else 0

    def placed(self, arrays: Any) -> Any:
        """A tree of arrays at its `place`."""
        return arrays if self.place is None else jax.device_put(arrays, self.place)

    def left(self, arrays: Any) -> Any:
        """`placed`, of what a program gives back."""
        return arrays if self.place is None else jax.lax.with_sharding_constraint(arrays, self.place)

    def __call__(self, shared: Any, own: Any, z: Array, t: Array) -> Array:
        """The first kind's velocity of windows that remember nothing: a `VelocityFn`."""
        return self.kinds[0](shared, own, z, t, self.init(z))[0]


def stays(leaf: Any) -> bool:
    """Whether a leaf of what changes is one that stays."""
    return leaf is None


def without_memory(velocity: VelocityFn) -> Velocity:
    """A velocity of one kind that remembers nothing."""
    return Velocity((lambda shared, own, z, t, memory: (velocity(shared, own, z, t), memory),))


class Own(NamedTuple):
    """What R windows have for themselves."""

    sound: Float[Array, "R ..."]
    """Their sound, as the velocity reads it."""
    video: Int[Array | np.ndarray, "R"]
    """Place of each window's video among those that `shared` was made of."""
    seed: Int[Array | np.ndarray, "R"] | None = None
    """Seed of each window's video, where steps add new noise."""


@dataclass(frozen=True, eq=False)
class Source:
    """A video to be denoised, as an order takes it in."""

    noise: Callable[[int, int], Float[Array, "count H W C"]]
    """`noise(start, count)`: the noise of latent frames, float32, whichever of them are asked for together."""
    sounds: Callable[[int], Iterator[Float[Array, "..."]]]
    """`sounds(first)`: the sound of each window from number `first` on, from left to right, as it comes."""
    windows: int | None = None
    """How many windows there are; None while a live sound goes on."""
    seed: int = 0
    """Of the new noise that steps add."""
    shared: Any = None
    """What its windows share. Several are joined to what the velocity takes."""


Join = Callable[[Sequence[Any]], Any]
"""What the velocity takes as `shared`, of the `shared` of several sources; `Own.video` counts them."""


class Block(NamedTuple):
    """Finished latents of a video."""

    video: int
    """Number of its source."""
    start: int
    """Latent frame at which they begin."""
    z: Float[np.ndarray, "n H W C"] | Mistake
    """float32. Past the end of the video too, as far as its last window reaches. A Mistake ends a video whose velocity
    was not finite."""


Order = Callable[..., Iterator[Block]]
"""`denoise(sources, tell=silent, state=None)`: the loop over all steps and windows of videos.

Yields the finished latents of each video in their order. `tell` is told how far it is; with the `state` of a `Standing`
event it goes on from there, where there is one source."""


def one_video(shared: Sequence[Any]) -> Any:
    """The `Join` of a velocity that takes one video at a time."""
    return shared[0]


def not_finite(step: int) -> Mistake:
    """What is raised where a velocity is not finite."""
    return Mistake(
        f"step {step + 1} gave numbers that are not finite; try --dtype float32 and lower guidance scales, and run "
        "`python -m convert verify` on the checkpoint",
        "not finite",
    )


Program = Callable[..., tuple[Array, Array, Array, Any, Array]]


def make_program(velocity: Velocity, solver: Solver, config: WindowConfig, kind: int = 0) -> Program:
    """The program for steps of one kind, a pure function to be jitted within an order:

    `program(z [R F H W C], kept [Q R S H W C], tail, step [R], window [R], live [R], shared, own [R ...], memory)`
    gives the next latents of each window's first S frames (S is the stride; no later window changes their velocity),
    what the solver keeps of them, the new tail, what changes of the windows' memory, and whether each row's velocities
    were finite. At step 0 the memory is made anew, whatever is given.

    A tail is the fused velocities of the `overlap` frames that a window shares with the one before it. `[overlap ...]`
    is handed from row to row: the rows are neighbours. `[R overlap ...]` has one for each row. A row that is not
    `live` has no window: its tail runs out, and the network is not run where no row is live.
    """
    stride = config.stride
    weights = fusion_weights(config.overlap, config.fusion)
    apply, begins = velocity.kinds[kind], velocity.at(0) == kind

    def program(
        z: Array, kept: Array, tail: Array, step: Array, window: Array, live: Array, shared: Any, own: Any, memory: Any
    ) -> tuple[Array, Array, Array, Any, Array]:
        by_row = lambda rows, x: rows.reshape(-1, *(1,) * (x.ndim - 1))  # noqa: E731
        if begins:
            new = lambda fresh, x: jnp.where(by_row(step == 0, x), fresh, x)  # noqa: E731
            memory = jax.tree.map(new, velocity.init(z), memory)

        given, kept_leaf = (shared, own, z, solver.t[step], memory), lambda new, old: None if new is None else old
        changes = jax.eval_shape(apply, *given)[1] if jax.tree.leaves(memory) else memory

        def predict() -> tuple[Array, Any]:
            v, changes = apply(*given)
            return v.astype(jnp.float32), changes

        def nothing() -> tuple[Array, Any]:
            return jnp.zeros(z.shape, jnp.float32), jax.tree.map(kept_leaf, changes, memory, is_leaf=stays)

        v, changes = jax.lax.cond(live.any(), predict, nothing)
        if begins:  # what stays is new
            changes = jax.tree.map(lambda new, old: old if new is None else new, changes, memory, is_leaf=stays)
        v = jnp.where(by_row(live, z), v, 0)
        alone = (window == 0) | (step < config.first_fused_step)
        share = jnp.where(alone[:, None], 1, weights) * live[:, None]
        if tail.ndim == z.ndim:
            # A video that came to an end with numbers that are not finite leaves nothing to the next one.
            tail = jnp.where(by_row(window == 0, z), 0, tail)
            tail, v = jax.vmap(fuse)(tail, v, share)
        else:
            tail, v = jax.lax.scan(lambda tail, row: fuse(tail, *row), tail, (v, share))
        noise = None if solver.noise is None else _new_noise(own.seed, step, window * stride, z[:, :stride].shape[1:])
        z, kept = solvers.step(solver, step, z[:, :stride], v, kept, noise)
        return z, kept, tail, changes, jnp.isfinite(v).all(range(1, v.ndim))

    return program


def _new_noise(seed: Array, step: Array, start: Array, shape: tuple[int, ...]) -> Float[Array, "R S H W C"]:
    """New noise of the frames that R windows step, by seed, step and frame."""
    draw = lambda seed, step, start: step_noise(jax.random.key(seed), step, start, shape[0], shape[1:])  # noqa: E731
    return jax.lax.optimization_barrier(jax.vmap(draw)(seed, step, start))  # the same bits in every program
