"""Ring attention: keys and values go round, every device reads each piece of them, and the parts are merged."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.ad_checkpoint import checkpoint_name

from stableavatar_jax.shapes import Array, Float, Int

NOTHING = -1e30
"""The logarithm of a sum of no exponentials."""


class Piece(NamedTuple):
    """Attention over some of the keys, on one device."""

    read: Callable[[Array, Array, Array, Array | None], tuple[Array, Array]]
    """`q, k, v, lengths -> out, statistics`: the result, and the logarithm of its softmax's sum in float32."""
    back: Callable[..., tuple[Array, Array, Array]]
    """`q, k, v, lengths, out, statistics, d_out -> dq, dk, dv`, where `out` and `statistics` are those of all keys."""
    keep: str | None = None
    """What `jax.checkpoint` knows the result and the statistics by."""


def merge(
    out: Float[Array, "B L N K"], total: Float[Array, "B N L"],
    more: Float[Array, "B L N K"], total_more: Float[Array, "B N L"],
) -> tuple[Float[Array, "B L N K"], Float[Array, "B N L"]]:  # fmt: skip
    """Attention over the keys of two parts, out of that over each; float32."""
    both = jnp.logaddexp(total, total_more)
    share = lambda part: rearrange(jnp.exp(part - both), "B N L -> B L N 1")  # noqa: E731
    return out * share(total) + more * share(total_more), both


def ring(
    q: Float[Array, "B L N K"], k: Float[Array, "B M N K"], v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None, axis: str, devices: int, piece: Piece,
) -> Float[Array, "B L N K"]:  # fmt: skip
    """Attention of this device's queries over the keys of all devices along a mesh axis; in `shard_map`.

    `lengths` count the keys of all devices together, in the order of the axis. While a piece is read, it is already on
    its way to the next device.
    """
    limit = functools.partial(_limit, keys=k.shape[1], axis=axis, devices=devices)
    read = functools.partial(_read, piece)

    def forward(q: Array, k: Array, v: Array, lengths: Array | None) -> tuple[Array, Array]:
        def turn(carry, number):
            (k, v), out, total = carry
            sent = _send((k, v), axis, devices)
            return (sent, *merge(out, total, *read(q, k, v, limit(lengths, number)))), None

        start = jnp.zeros(q.shape, jnp.float32), jnp.full((q.shape[0], q.shape[2], q.shape[1]), NOTHING)
        ((k, v), out, total), _ = jax.lax.scan(turn, ((k, v), *start), jnp.arange(devices - 1))
        out, total = merge(out, total, *read(q, k, v, limit(lengths, devices - 1)))
        return out.astype(q.dtype), total

    @jax.custom_vjp
    def attend(q: Array, k: Array, v: Array, lengths: Array | None) -> Array:
        return forward(q, k, v, lengths)[0]

    def attend_forward(q, k, v, lengths):
        out, total = forward(q, k, v, lengths)
        if piece.keep:
            out, total = checkpoint_name(out, piece.keep), checkpoint_name(total, piece.keep)
        return out, (q, k, v, lengths, out, total)

    def attend_back(kept, d_out):
        q, k, v, lengths, out, total = kept

        def turn(carry, number):
            """The gradients of keys and values travel with them, and are home again after the last turn."""
            (k, v), (dk, dv), dq = carry
            sent = _send((k, v), axis, devices)
            part = piece.back(q, k, v, limit(lengths, number), out, total, d_out)
            dq, dk, dv = (a + b.astype(jnp.float32) for a, b in zip((dq, dk, dv), part, strict=True))
            return (sent, _send((dk, dv), axis, devices), dq), None

        zeros = lambda x: jnp.zeros(x.shape, jnp.float32)  # noqa: E731
        start = ((k, v), (zeros(k), zeros(v)), zeros(q))
        (_, (dk, dv), dq), _ = jax.lax.scan(turn, start, jnp.arange(devices))
        return *(d.astype(x.dtype) for d, x in ((dq, q), (dk, k), (dv, v))), None

    attend.defvjp(attend_forward, attend_back)
    return attend(q, k, v, lengths)


def _limit(lengths: Array | None, turn: Array | int, *, keys: int, axis: str, devices: int) -> Array | None:
    """How many keys of the piece that is here after so many turns may be read."""
    if lengths is None:
        return None
    first = (jax.lax.axis_index(axis) - turn) % devices * keys
    return jnp.clip(lengths - first, 0, keys)


def _read(piece: Piece, q: Array, k: Array, v: Array, lengths: Array | None) -> tuple[Array, Array]:
    """Attention over the first keys of a piece, which may be none."""
    out, total = piece.read(q, k, v, lengths)
    if lengths is None:
        return out.astype(jnp.float32), total
    some = lengths > 0  # what a kernel makes of no keys at all is its own affair
    return jnp.where(some[:, None, None, None], out, 0.0), jnp.where(some[:, None, None], total, NOTHING)


def _send(arrays: tuple[Array, ...], axis: str, devices: int) -> tuple[Array, ...]:
    """To the next device along an axis, from the one before."""
    around = [(i, (i + 1) % devices) for i in range(devices)]
    return tuple(jax.lax.ppermute(x, axis, around) for x in arrays)
