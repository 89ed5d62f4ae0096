"""A matrix product of the feed-forward's size: what the chip gives at best."""

import jax
import jax.numpy as jnp

from benchmarks.gpu.measure import Rows, Size, milliseconds


def main(size: Size, rows: Rows) -> None:
    """Random data: zeros run faster than anything real."""
    c = size.model.dit
    a = jax.random.normal(jax.random.key(0), (size.tokens, c.dim), jnp.float32).astype(size.dtype)
    b = jax.random.normal(jax.random.key(1), (c.dim, c.ffn_dim), jnp.float32).astype(size.dtype)
    product = jax.jit(jnp.matmul)
    ms = milliseconds(lambda: product(a, b), jax.block_until_ready, 4 * size.repeats)
    rows.add(f"product {size.tokens}x{c.dim}x{c.ffn_dim}", ms=ms, flop=2.0 * size.tokens * c.dim * c.ffn_dim)
