"""Attention by online softmax, whose memory does not grow with the square of the length, on any device."""

import functools
import math

import jax
import jax.numpy as jnp
from einops import rearrange

from stableavatar_jax.shapes import Array, Float, Int

QUERY_CHUNK = 256
KEY_CHUNK = 1024


def chunked(
    q: Float[Array, "B L N K"],
    k: Float[Array, "B M N K"],
    v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None,
    scale: float,
) -> tuple[Float[Array, "B L N K"], Float[Array, "B N L"]]:
    """Attention (see `attention`) and the logarithm of its softmax's sum: chunks of queries one after another, each
    walking over chunks of keys.
    """
    length, keys = q.shape[1], k.shape[1]
    q_chunks, k_chunks = math.ceil(length / QUERY_CHUNK), math.ceil(keys / KEY_CHUNK)
    q_size, k_size = math.ceil(length / q_chunks), math.ceil(keys / k_chunks)
    padded = k_chunks * k_size != keys
    mask = None
    if padded or lengths is not None:
        read_to = jnp.full(k.shape[:1], keys) if lengths is None else lengths
        mask = jnp.arange(k_chunks * k_size) < read_to[:, None]
        mask = rearrange(mask, "b (c m) -> c b 1 1 m", c=k_chunks)
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
        (top, total, out), _ = jax.lax.scan(step, start, (k, v, mask))
        total = jnp.maximum(total, 1e-30)
        return (out / total[..., None]).astype(query.dtype), top + jnp.log(total)

    out, statistics = jax.lax.map(one_query_chunk, q)
    out = rearrange(out, "c b n l k -> b (c l) n k")[:, :length]
    return out, rearrange(statistics, "c b n l -> b n (c l)")[..., :length]


def _pad(x: Array, length: int) -> Array:
    return jnp.pad(x, ((0, 0), (0, length - x.shape[1])) + ((0, 0),) * (x.ndim - 2))
