"""Positions and times as angles: 3D rotary embedding of tokens, sinusoids of the noise level."""

import jax.numpy as jnp
import numpy as np
from einops import rearrange

from stableavatar_jax.shapes import Array, Float

BASE = 10000.0


def rope_frequencies(head_dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angle per position step for the time, height and width pairs of one head, float64.

    The head's `head_dim // 2` pairs are dealt out as `d - 4*(d//6)`, `2*(d//6)`, `2*(d//6)` channels over t, h, w.
    """
    side = 2 * (head_dim // 6)
    sizes = (head_dim - 2 * side, side, side)
    t, h, w = (BASE ** -(np.arange(0, size, 2) / size) if size else np.zeros(0) for size in sizes)
    return t, h, w


def rope_tables(grid: tuple[int, int, int], head_dim: int) -> tuple[Float[Array, "L P"], Float[Array, "L P"]]:
    """Cosines and sines for the tokens of a grid (frames, rows, columns), float32; P is `head_dim // 2`.

    Angles are made in float64 per axis, where they are few, and broadcast over the grid on the device.
    """
    angles = [np.outer(np.arange(n), f) for n, f in zip(grid, rope_frequencies(head_dim), strict=True)]

    def spread(tables: list[np.ndarray]) -> Array:
        shaped = (x.reshape(tuple(-1 if a == axis else 1 for a in range(3)) + (x.shape[1],))
                  for axis, x in enumerate(tables))
        full = [jnp.broadcast_to(jnp.asarray(x, jnp.float32), (*grid, x.shape[-1])) for x in shaped]
        return jnp.concatenate(full, -1).reshape(-1, head_dim // 2)

    return spread([np.cos(a) for a in angles]), spread([np.sin(a) for a in angles])


def pairs_apart(x: Float[Array, "... D"], heads: int) -> Float[Array, "... D"]:
    """The last axis reordered: of every head's channels the first of each pair, then the second of each.

    The release turns neighbouring channels. Weights stay in its order, and are reordered where they are used, for q and
    k alike, which changes no score: parts of a head lie in one piece then, and a device turns them without shuffling.
    """
    return rearrange(x, "... (N P two) -> ... (N two P)", N=heads, two=2)


def swapped(x: Float[Array, "... K"]) -> Float[Array, "... K"]:
    """The last axis with its halves exchanged: in the place of every channel the other one of its pair
    (`pairs_apart`).
    """
    return jnp.roll(x, x.shape[-1] // 2, -1)


def rotate(
    x: Float[Array, "B L N K"], others: Float[Array, "B L N K"], cos: Float[Array, "L P"], sin: Float[Array, "L P"]
) -> Float[Array, "B L N K"]:
    """Turn pairs of channels, P apart (`pairs_apart`), by the tables' angles; `others` is x `swapped`.

    Who scales x swaps it first and scales both: a device swaps channels in memory, and so does it in x's own dtype.
    """
    cos, sin = jnp.concatenate([cos, cos], -1), jnp.concatenate([-sin, sin], -1)
    return x * cos[:, None] + others * sin[:, None]


def sinusoid(t: Float[Array, "B"], dim: int) -> Float[Array, "B dim"]:
    """Cosines, then sines, of `t` times `dim // 2` frequencies from 1 down to 1/10000; float32, `0 <= t < 4096`.

    A float32 product t*f is off by 6e-5 radians at t = 1000. So angles are counted in turns, and the frequency is cut
    in two: whole steps of t times its upper 12 bits are exact, and lose their whole turns before the rest is added.
    """
    turns = BASE ** -(np.arange(dim // 2) / (dim // 2)) / (2 * np.pi)
    upper = np.round(turns * 2**12) / 2**12
    upper32, lower32, turns32 = (jnp.asarray(x, jnp.float32) for x in (upper, turns - upper, turns))
    t = t.astype(jnp.float32)[:, None]
    whole = jnp.floor(t)
    exact = whole * upper32
    angle = 2 * np.pi * ((exact - jnp.round(exact)) + (whole * lower32 + (t - whole) * turns32))
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1)
