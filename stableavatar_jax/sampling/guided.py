"""The guided velocity of a network, which may remember guidance and what the network's blocks added."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from stableavatar_jax.diffusion.guidance import MAIN, Guidance, combine
from stableavatar_jax.diffusion.reuse import Schedule, Step
from stableavatar_jax.sampling.program import Apply, Velocity
from stableavatar_jax.shapes import Array, Float


class Network(NamedTuple):
    """A network in three parts, of which a cache leaves out the one in the middle, where the work is."""

    embed: Callable[..., Any]
    """`embed(shared, own, z, t)`: what the branches of R windows share; its `x` are their tokens, `[R ...]`."""
    blocks: Callable[..., Array]
    """`blocks(shared, own, embedded, branches) -> [R K ...]`: the tokens of each branch behind the blocks."""
    read_out: Callable[..., Array]
    """`read_out(shared, embedded, tokens [R K ...]) -> [R K F H W C]`: the velocity of each branch."""
    room: Callable[[Array, int], Array]
    """`room(z, K) -> [R K ...]`: zeros for what the blocks add, in the dtype of the tokens."""
    place: Callable[[Array], Array] = lambda x: x
    """Where that is kept: divided among the devices of a mesh."""


class Memory(NamedTuple):
    """What a window keeps of its steps; `()` where no step needs it, None in what changes where it stays."""

    difference: Float[Array, "R F H W C"] | tuple[()] | None = ()
    """The guided velocity minus the main branch's, of the last guided step; float32."""
    added: Float[Array, "R K ..."] | tuple[()] | None = ()
    """What the blocks added to the tokens when they ran last, of each branch."""


def guided(network: Network, guidance: Guidance, schedule: Schedule = (), *, reuse: bool = False) -> Velocity:
    """The velocity whose steps evaluate what a schedule says, by default all branches at every step.

    With `reuse`, the main branch alone stands for all: to it is added by how much guidance moved it last, at first 0.
    """
    if len(guidance.branches) == 1:
        schedule = tuple(step._replace(guided=True) for step in schedule)
    kinds = tuple(dict.fromkeys(schedule)) or (Step(),)
    keeps, caches = reuse and any(not kind.guided for kind in kinds), any(kind.skipped for kind in kinds)

    def init(z: Float[Array, "R F H W C"]) -> Any:
        difference = jnp.zeros(z.shape, jnp.float32) if keeps else ()
        added = network.place(network.room(z, len(guidance.branches))) if caches else ()
        return Memory(difference, added) if keeps or caches else ()

    applies = tuple(_kind(network, guidance, kind, keeps, caches) for kind in kinds)
    return Velocity(applies, tuple(map(kinds.index, schedule)), init)


def _kind(network: Network, guidance: Guidance, step: Step, keeps: bool, caches: bool) -> Apply:
    """One kind of evaluation."""
    branches = guidance.branches if step.guided else (MAIN,)
    main = guidance.branches.index(MAIN) if keeps or (caches and not step.guided) else 0
    which = slice(None) if step.guided else slice(main, main + 1)

    def apply(shared: Any, own: Any, z: Array, t: Array, memory: Any) -> tuple[Array, Any]:
        difference: Any = None if keeps else ()
        added: Any = None if caches else ()
        embedded = network.embed(shared, own, z, t)
        if step.skipped:
            tokens = embedded.x[:, None] + memory.added[:, which]
        else:
            tokens = network.blocks(shared, own, embedded, branches)
            if caches:
                added = network.place(memory.added.at[:, which].set(tokens - embedded.x[:, None]))
        each = network.read_out(shared, embedded, tokens)
        if step.guided:
            v = combine(each, guidance)
            difference = v - each[:, main].astype(jnp.float32) if keeps else difference
        else:
            v = each[:, 0].astype(jnp.float32)
            v = v + memory.difference if keeps else v
        return v, Memory(difference, added) if keeps or caches else ()

    return apply
