"""The backward pass of attention over pieces of the keys, added up, is that of attention over all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.models.attention.direct import direct
from stableavatar_jax.models.attention.pieces import plain_back, splash_back

SCALE = 128**-0.5
BACK = {"plain": plain_back, "splash": functools.partial(splash_back, chip="TPU v5", interpret=True)}


@pytest.mark.parametrize("back", BACK)
def test_pieces_add_up(back):
    """Of 200 keys the first 150 are read: all of the first piece, and 22 of the second."""
    q, k, v, d_out = (jax.random.normal(jax.random.key(i), (1, 200, 1, 128)) / 2 for i in range(4))
    lengths = jnp.array([150])
    (out, total), transposed = jax.vjp(lambda *qkv: direct(*qkv, lengths, None, SCALE), q, k, v)
    parts = [
        BACK[back](q, k[:, keys], v[:, keys], read, SCALE, out, total, d_out)
        for keys, read in ((slice(0, 128), None), (slice(128, 200), jnp.array([22])))
    ]
    (dq, dk, dv), (dq_more, *more) = parts
    made = [dq + dq_more, *(jnp.concatenate(pair, 1) for pair in zip((dk, dv), more, strict=True))]
    for ours, true in zip(made, transposed((d_out, jnp.zeros_like(total))), strict=True):
        np.testing.assert_allclose(jnp.linalg.norm(ours - true) / jnp.linalg.norm(true), 0, atol=1e-5)
