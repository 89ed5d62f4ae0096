"""Attention by the kernels of a device: cuDNN's on NVIDIA GPUs, splash attention on TPUs.

Published times and the rules of each are in docs/performance.md. `route` sends here only what a kernel can compute.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from stableavatar_jax.shapes import Array, Float, Int

E4M3_MAX = 448.0
"""The largest number of the 8-bit float that has 4 bits of exponent and 3 of mantissa."""


def cudnn(
    q: Float[Array, "B L N K"], k: Float[Array, "B M N K"], v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None, scale: float,
) -> Float[Array, "B L N K"]:  # fmt: skip
    """cuDNN's flash attention. Lengths cost nothing; a mask would be written out as a bias of the scores' size.

    Its backward pass takes even numbers of queries and keys alone: odd ones get one more, which is not read.
    """
    queries, keys = q.shape[1], k.shape[1]
    if keys % 2:
        lengths = jnp.full(len(q), keys, jnp.int32) if lengths is None else lengths
    q, k, v = (_fill(x, _ceil(x.shape[1], 2)) for x in (q, k, v))
    out = jax.nn.dot_product_attention(
        q, k, v, scale=scale, key_value_seq_lengths=lengths,
        query_seq_lengths=None if lengths is None else jnp.full(len(q), q.shape[1], jnp.int32), implementation="cudnn",
    )  # fmt: skip
    return out[:, :queries]


def cudnn_parts(
    q: Float[Array, "B L N K"], k: Float[Array, "B M N K"], v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None, scale: float,
) -> tuple[Float[Array, "B L N K"], Float[Array, "B N L"]]:  # fmt: skip
    """`cudnn` and its softmax statistics. JAX's public function rounds them to the output's dtype, which spoils a merge
    of parts by 3 to 6 %; this one beneath it does not.
    """
    from jax._src.cudnn import fused_attention_stablehlo as beneath

    padding = beneath.MaskType.NO_MASK if lengths is None else beneath.MaskType.PADDING
    queries = None if lengths is None else jnp.full(len(q), q.shape[1], jnp.int32)
    out, statistics = beneath.dot_product_attention(
        q, k, v, q_seqlen=queries, kv_seqlen=lengths, scale=scale, mask_type=padding, return_residual=True
    )
    return out, statistics


def cudnn_fp8(
    q: Float[Array, "B L N K"], k: Float[Array, "B M N K"], v: Float[Array, "B M N K"], scale: float
) -> Float[Array, "B L N K"]:
    """cuDNN's attention in 8 bits, forward alone.

    Each operand is scaled to the format's range by its own maximum. The mean key over tokens is subtracted: it adds
    the same to all scores of a query, so nothing changes but the rounding. The result is a mean of rows of v, so v's
    maximum bounds it and no calibration is needed.
    """
    from jax._src.cudnn import fused_attention_stablehlo as beneath

    one = jnp.ones((1, 1, 1, 1), jnp.float32)

    def small(x: Array) -> tuple[Array, Array]:
        top = jnp.maximum(jnp.abs(x).max().astype(jnp.float32), 1e-12).reshape(1, 1, 1, 1)
        return (x.astype(jnp.float32) * (E4M3_MAX / top)).astype(jnp.float8_e4m3fn), top / E4M3_MAX

    q8, unit_q = small(q)
    k8, unit_k = small(k.astype(jnp.float32) - k.astype(jnp.float32).mean(1, keepdims=True))
    v8, unit_v = small(v)
    probability = 256.0  # exponentials are at most 1; a power of two within the format's range rounds none of them more
    params: Any = dict.fromkeys(beneath.fp8_params_keys, one) | {
        "descale_q": unit_q, "descale_k": unit_k, "descale_v": unit_v,
        "scale_s": one * probability, "descale_s": one / probability, "scale_o": 1 / unit_v, "descale_o": unit_v,
    }  # fmt: skip
    out, _, _ = beneath.dot_product_attention(q8, k8, v8, fp8_params=params, scale=scale, use_fp8=True)
    return (out.astype(jnp.float32) * unit_v).astype(q.dtype)


def splash(
    q: Float[Array, "B L N K"], k: Float[Array, "B M N K"], v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None, scale: float, *, chip: str, keep: str | None = None, interpret: bool = False,
) -> Float[Array, "B L N K"]:  # fmt: skip
    """Splash attention; its result and softmax statistics are named `keep` for `jax.checkpoint`."""
    out: Any = _splash(q, k, v, lengths, scale, chip, interpret, residual_checkpoint_name=keep)
    return rearrange(out, "B N L K -> B L N K")[:, : q.shape[1]]


def splash_parts(
    q: Float[Array, "B L N K"], k: Float[Array, "B M N K"], v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None, scale: float, *, chip: str, interpret: bool = False,
) -> tuple[Float[Array, "B L N K"], Float[Array, "B N L"]]:  # fmt: skip
    """`splash` and its softmax statistics, in float32."""
    out, (statistics, *_) = _splash(q, k, v, lengths, scale, chip, interpret, save_residuals=True)
    return rearrange(out, "B N L K -> B L N K")[:, : q.shape[1]], statistics[:, :, : q.shape[1]]


def _splash(q, k, v, lengths, scale, chip, interpret, **options):
    kernel, arrays, segments = splash_ready(q, k, v, lengths, scale, chip=chip, interpret=interpret, **options)
    return jax.vmap(kernel)(*arrays) if segments is None else jax.vmap(kernel)(*arrays, segments)


def splash_ready(
    q: Float[Array, "B L N K"], k: Float[Array, "B M N K"], v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None, scale: float, *, chip: str, interpret: bool, **options: Any,
) -> tuple[Any, tuple[Array, Array, Array], Any]:  # fmt: skip
    """The kernel of one row, q, k and v `[B N L K]` padded to whole blocks, and which segment each token belongs to:
    keys that are padded, or beyond the lengths, to another one (None where there are no such keys).
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as pallas

    block_q, block_k, compute_k = block_sizes(chip)
    queries, keys = q.shape[1], k.shape[1]
    block_q, block_k = min(block_q, _ceil(queries, 128)), min(block_k, _ceil(keys, 128))
    compute_k = compute_k if block_k % compute_k == 0 else 128
    long_q, long_k = _ceil(queries, block_q), _ceil(keys, block_k)
    blocks = pallas.BlockSizes(
        block_q=block_q, block_kv=block_k, block_kv_compute=compute_k,
        block_q_dkv=block_q, block_kv_dkv=block_k, block_kv_dkv_compute=compute_k, use_fused_bwd_kernel=True,
    )  # fmt: skip
    mask = pallas.MultiHeadMask([pallas.FullMask((long_q, long_k))] * q.shape[2])
    kernel = pallas.make_splash_mha(
        mask=mask, block_sizes=blocks, head_shards=1, q_seq_shards=1, interpret=interpret, **options
    )
    turn = functools.partial(rearrange, pattern="B L N K -> B N L K")
    arrays = turn(_fill(q * jnp.asarray(scale, q.dtype), long_q)), turn(_fill(k, long_k)), turn(_fill(v, long_k))
    if lengths is None and (long_q, long_k) == (queries, keys):
        return kernel, arrays, None
    read_to = jnp.full(len(q), keys, jnp.int32) if lengths is None else lengths
    segments = pallas.SegmentIds(
        q=jnp.zeros((len(q), long_q), jnp.int32),  # padded queries read as the others do, and are cut off
        kv=(jnp.arange(long_k) >= read_to[:, None]).astype(jnp.int32),
    )
    return kernel, arrays, segments


def block_sizes(chip: str) -> tuple[int, int, int]:
    """Queries, keys, and keys computed at once, of a block on a kind of TPU, as published for heads of 128."""
    if "v5p" in chip.lower() or chip == "TPU v5":
        return 2048, 2048, 256
    if "v6" in chip.lower():
        return 2048, 2048, 512
    if "7" in chip:
        return 4096, 4096, 256
    return 1024, 1024, 512


def _fill(x: Array, length: int) -> Array:
    return jnp.pad(x, ((0, 0), (0, length - x.shape[1]), (0, 0), (0, 0)))


def _ceil(length: int, block: int) -> int:
    return int(np.ceil(length / block)) * block
