"""Attention behind one function, whose memory does not grow with the square of the length."""

import functools
import math

import jax
import jax.numpy as jnp
from einops import rearrange

from stableavatar_jax.shapes import Array, Bool, Float

QUERY_CHUNK = 256
KEY_CHUNK = 1024


def attention(
    q: Float[Array, "B L N K"],
    k: Float[Array, "B M N K"],
    v: Float[Array, "B M N K"],
    *,
    mask: Bool[Array, "B M"] | None = None,
    bias: Float[Array, "B N L M"] | Float[Array, "1 N L M"] | None = None,
    scale: float | None = None,
) -> Float[Array, "B L N K"]:
    """Softmax attention of every query over every key; the softmax runs in float32, the result has q's dtype.

    `mask` is True where a key may be read; a row with no such key reads zero. `bias` is added to the scores before
    the softmax. `scale` multiplies the scores (default `K ** -0.5`).
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if bias is not None or k.shape[1] <= KEY_CHUNK and q.shape[1] <= 2 * QUERY_CHUNK:
        return _direct(q, k, v, mask, bias, scale)
    return _chunked(q, k, v, mask, scale)


def _direct(q, k, v, mask, bias, scale):
    scores = jnp.einsum("blnk,bmnk->bnlm", q, k, preferred_element_type=jnp.float32) * scale
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = jnp.where(mask[:, None, None, :], scores, -jnp.inf)
    top = jnp.maximum(scores.max(-1, keepdims=True), -1e30)  # keeps a row without keys finite
    weights = jnp.exp(scores - jax.lax.stop_gradient(top))
    total = jnp.maximum(weights.sum(-1), 1e-30)
    out = jnp.einsum("bnlm,bmnk->blnk", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return (out / rearrange(total, "b n l -> b l n 1")).astype(q.dtype)


def _chunked(q, k, v, mask, scale):
    """Online softmax: chunks of queries one after another, each walking over chunks of keys."""
    length, keys = q.shape[1], k.shape[1]
    q_chunks, k_chunks = math.ceil(length / QUERY_CHUNK), math.ceil(keys / KEY_CHUNK)
    q_size, k_size = math.ceil(length / q_chunks), math.ceil(keys / k_chunks)
    padded = k_chunks * k_size != keys
    if padded or mask is not None:
        mask = jnp.ones(k.shape[:2], bool) if mask is None else mask
        mask = rearrange(_pad(mask, k_chunks * k_size), "b (c m) -> c b 1 1 m", c=k_chunks)
    q = rearrange(_pad(q * jnp.asarray(scale, q.dtype), q_chunks * q_size), "b (c l) n k -> c b n l k", c=q_chunks)
    k = rearrange(_pad(k, k_chunks * k_size), "b (c m) n k -> c b n m k", c=k_chunks)
    v = rearrange(_pad(v, k_chunks * k_size), "b (c m) n k -> c b n m k", c=k_chunks)

    # Scores are made again in the backward pass: keeping them is what this function exists to avoid.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def read(query, carry, chunk):
        top, total, out = carry
        key, value, allowed = chunk
        scores = jnp.einsum("bnlk,bnmk->bnlm", query, key, preferred_element_type=jnp.float32)
        if allowed is not None:
            scores = jnp.where(allowed, scores, -jnp.inf)
        new_top = jnp.maximum(top, scores.max(-1))
        weights = jnp.exp(scores - new_top[..., None])
        decay = jnp.exp(top - new_top)
        read = jnp.einsum("bnlm,bnmk->bnlk", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
        return new_top, total * decay + weights.sum(-1), out * decay[..., None] + read

    def one_query_chunk(query):
        start = (
            jnp.full(query.shape[:3], -1e30, jnp.float32),
            jnp.zeros(query.shape[:3], jnp.float32),
            jnp.zeros(query.shape, jnp.float32),
        )
        step = lambda carry, chunk: (read(query, carry, chunk), None)  # noqa: E731
        (_, total, out), _ = jax.lax.scan(step, start, (k, v, mask))
        return (out / jnp.maximum(total, 1e-30)[..., None]).astype(query.dtype)

    out = jax.lax.map(one_query_chunk, q)
    return rearrange(out, "c b n l k -> b (c l) n k")[:, :length]


def _pad(x: Array, length: int) -> Array:
    return jnp.pad(x, ((0, 0), (0, length - x.shape[1])) + ((0, 0),) * (x.ndim - 2))
