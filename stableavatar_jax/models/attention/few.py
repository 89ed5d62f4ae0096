"""Attention of many queries over few keys, as two matrix products for all heads together.

A product of each head by itself wants queries head by head, a copy of them, and is too narrow to fill a device. Here
the keys of all heads stand on the diagonal of one matrix: queries are read as they lie, at the price of multiplying
zeros, which is small beside reading them.
"""

import jax
import jax.numpy as jnp
from einops import rearrange

from stableavatar_jax.shapes import Array, Float, Int

MOST = 16
"""Keys up to which `route` sends here."""


def few(
    q: Float[Array, "B L N K"],
    k: Float[Array, "B M N K"],
    v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None,
    scale: float,
) -> Float[Array, "B L N K"]:
    """Attention (see `attention`) over at most `MOST` keys."""
    heads, keys = q.shape[2], k.shape[1]
    own = jnp.eye(heads, dtype=q.dtype)
    pad = lambda a: jnp.pad(a, ((0, 0), (0, MOST - keys), (0, 0), (0, 0)))  # noqa: E731
    k = rearrange(jnp.einsum("bmnk,nj->bnkjm", pad(k), own), "b n k j m -> b (n k) (j m)")
    v = rearrange(jnp.einsum("bmnk,nj->bjmnk", pad(v), own), "b j m n k -> b (j m) (n k)")
    scores = jnp.matmul(rearrange(q, "b l n k -> b l (n k)"), k, preferred_element_type=jnp.float32) * scale
    read = jnp.arange(MOST) < (jnp.full(len(q), keys) if lengths is None else lengths)[:, None]
    scores = rearrange(scores, "b l (n m) -> b l n m", n=heads)
    scores = jnp.where(read[:, None, None, :], scores, -jnp.inf)
    top = jax.lax.stop_gradient(jnp.maximum(scores.max(-1, keepdims=True), -1e30))  # keeps a row without keys finite
    weights = jnp.exp(scores - top)
    weights = weights / jnp.maximum(weights.sum(-1, keepdims=True), 1e-30)
    # The sums run in float32 on every accelerator; asking for a float32 result would write one.
    out = jnp.matmul(rearrange(weights.astype(v.dtype), "b l n m -> b l (n m)"), v)
    return rearrange(out, "b l (n k) -> b l n k", n=heads)
