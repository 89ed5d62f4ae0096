"""The backward pass of attention over some of the keys, given the result and the statistics over all of them.

Kernels have theirs for the keys they read themselves; what a ring needs lies beneath JAX's public functions.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from stableavatar_jax.models.attention.chunked import QUERY_CHUNK
from stableavatar_jax.models.attention.kernels import splash_ready
from stableavatar_jax.shapes import Array, Float, Int

Gradients = tuple[Float[Array, "B L N K"], Float[Array, "B M N K"], Float[Array, "B M N K"]]


def plain_back(
    q: Float[Array, "B L N K"], k: Float[Array, "B M N K"], v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None, scale: float,
    out: Float[Array, "B L N K"], total: Float[Array, "B N L"], d_out: Float[Array, "B L N K"],
) -> Gradients:  # fmt: skip
    """On any device: chunks of queries one after another, each against all the keys. Float32."""
    length = q.shape[1]
    chunks = math.ceil(length / QUERY_CHUNK)
    size = math.ceil(length / chunks)
    read = None if lengths is None else rearrange(jnp.arange(k.shape[1]) < lengths[:, None], "B M -> B 1 1 M")
    delta = jnp.einsum("blnk,blnk->bnl", out, d_out, preferred_element_type=jnp.float32)

    def part(carry, chunk):
        dk, dv = carry
        q, d_out, total, delta = chunk
        product = lambda form, a, b: jnp.einsum(form, a, b, preferred_element_type=jnp.float32)  # noqa: E731
        weights = jnp.exp(product("blnk,bmnk->bnlm", q, k) * scale - total[..., None])
        weights = weights if read is None else jnp.where(read, weights, 0)
        d_scores = weights * (product("blnk,bmnk->bnlm", d_out, v) - delta[..., None]) * scale
        dk = dk + product("bnlm,blnk->bmnk", d_scores, q)
        dv = dv + product("bnlm,blnk->bmnk", weights, d_out)
        return (dk, dv), product("bnlm,bmnk->blnk", d_scores, k)

    def cut(x: Array, axis: int) -> Array:
        padded = jnp.pad(x, [(0, chunks * size - length if i == axis else 0) for i in range(x.ndim)])
        return jnp.moveaxis(padded.reshape(*x.shape[:axis], chunks, size, *x.shape[axis + 1 :]), axis, 0)

    zeros = jnp.zeros(k.shape, jnp.float32)
    (dk, dv), dq = jax.lax.scan(part, (zeros, zeros), (cut(q, 1), cut(d_out, 1), cut(total, 2), cut(delta, 2)))
    return rearrange(dq, "c B l N K -> B (c l) N K")[:, :length], dk, dv


def cudnn_back(
    q: Float[Array, "B L N K"], k: Float[Array, "B M N K"], v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None, scale: float,
    out: Float[Array, "B L N K"], total: Float[Array, "B N L"], d_out: Float[Array, "B L N K"],
) -> Gradients:  # fmt: skip
    """cuDNN's. It takes even numbers of queries and keys alone."""
    from jax._src.cudnn import fused_attention_stablehlo as beneath

    queries, keys = q.shape[1], k.shape[1]
    if keys % 2 and lengths is None:
        lengths = jnp.full(len(q), keys, jnp.int32)
    q, k, v, out, d_out = (jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v, out, d_out))
    total = jnp.pad(total, ((0, 0), (0, 0), (0, queries % 2)))
    mask = beneath.MaskType.NO_MASK if lengths is None else beneath.MaskType.PADDING
    read = None if lengths is None else jnp.full(len(q), q.shape[1], jnp.int32)
    empty = jnp.zeros(0, q.dtype)
    no_lengths = jnp.zeros(0, jnp.int32)
    kept: Any = (
        q, k, v, empty, no_lengths if read is None else read, no_lengths if lengths is None else lengths,
        no_lengths, no_lengths, no_lengths, no_lengths, total, out,
    )  # fmt: skip
    dq, dk, dv, *_ = beneath._dot_product_attention_bwd_rule(
        scale, 42, 0.0, (False, False), mask, beneath.AttentionLayout.BTNH.value, 0, True, False, kept, d_out
    )
    return dq[:, :queries], dk[:, :keys], dv[:, :keys]


def splash_back(
    q: Float[Array, "B L N K"], k: Float[Array, "B M N K"], v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None, scale: float,
    out: Float[Array, "B L N K"], total: Float[Array, "B N L"], d_out: Float[Array, "B L N K"],
    *, chip: str, interpret: bool = False,
) -> Gradients:  # fmt: skip
    """Splash attention's."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as beneath

    kernel, arrays, segments = splash_ready(q, k, v, lengths, scale, chip=chip, interpret=interpret)
    missing = arrays[0].shape[2] - q.shape[1]
    turn = lambda x: jnp.pad(rearrange(x, "B L N K -> B N L K"), ((0, 0), (0, 0), (0, missing), (0, 0)))  # noqa: E731
    # Queries that are padded have no gradient; a large sum of theirs keeps their exponentials from overflowing.
    total = jnp.pad(total, ((0, 0), (0, 0), (0, missing)), constant_values=1e4)

    def row(q, k, v, segments, out, total, d_out):
        kept = (q, k, v, segments, None, out, total, kernel.dq_mask_info, kernel.dkv_mask_info)
        given = kernel.kwargs
        grads = beneath._splash_attention_bwd(
            False, given["mask_value"], False, given["block_sizes"], None, given["mask_function"], None, interpret,
            kept, d_out,
        )
        return grads[3:6]

    dq, dk, dv = jax.vmap(row)(*arrays, segments, turn(out), total, turn(d_out))
    home = lambda x, like: rearrange(x, "B N L K -> B L N K")[:, : like.shape[1]]  # noqa: E731
    return home(dq, q) * jnp.asarray(scale, dq.dtype), home(dk, k), home(dv, v)
