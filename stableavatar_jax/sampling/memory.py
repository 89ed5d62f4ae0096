"""What windows remember, as an order holds it: a tree whose leaves lead with the windows, on the device."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.sampling.program import Velocity, stays
from stableavatar_jax.shapes import Array, Int

LEAF = "memory "
"""What the names of its arrays in a `State` begin with."""


def begin(velocity: Velocity, windows: int, shape: tuple[int, ...]) -> Any:
    """Room for the memory of so many windows of `shape`, placed on the devices as the velocity places it."""
    return jax.jit(velocity.init)(jnp.zeros((windows, *shape), jnp.float32))


def taken(memory: Any, at: Int[Array | np.ndarray, "R"]) -> Any:
    """That of R windows."""
    return jax.tree.map(lambda x: x[at], memory)


def put(memory: Any, at: Int[Array | np.ndarray, "R"], changes: Any) -> Any:
    """With what changes of R windows; a place past the end is none."""
    # What stays is not written: XLA would copy the memory of all windows to read a row of it and write it again.
    write = lambda change, x: x if change is None else x.at[at].set(change, mode="drop")  # noqa: E731
    return jax.tree.map(write, changes, memory, is_leaf=stays)


def to_host(memory: Any) -> dict[str, np.ndarray]:
    """Its arrays by names."""
    return {f"{LEAF}{number}": np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(memory))}


def from_host(fresh: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The memory that `to_host` gave, placed as a fresh one is."""
    leaves, tree = jax.tree.flatten(fresh)
    placed = [jax.device_put(arrays[f"{LEAF}{number}"], leaf.sharding) for number, leaf in enumerate(leaves)]
    return jax.tree.unflatten(tree, placed)
