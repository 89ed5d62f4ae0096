"""Attention behind one function: `attention` picks what computes it, from shapes and from what has been settled.

The memory of none but `direct` grows with the square of the length. Which one computes what is decided by `route`
alone, before anything is traced; its docstring is the list.
"""

from typing import Literal

from jax.ad_checkpoint import checkpoint_name

from stableavatar_jax.models.attention import layouts, pieces
from stableavatar_jax.models.attention.chunked import KEY_CHUNK, QUERY_CHUNK, chunked
from stableavatar_jax.models.attention.direct import direct
from stableavatar_jax.models.attention.few import MOST, few
from stableavatar_jax.models.attention.kernels import cudnn, cudnn_fp8, cudnn_parts, splash, splash_parts
from stableavatar_jax.models.attention.layouts import Cut
from stableavatar_jax.models.attention.ring import Piece
from stableavatar_jax.models.compute import HALVES, Compute, takes_heads
from stableavatar_jax.shapes import Array, Float, Int

__all__ = ["KEY_CHUNK", "QUERY_CHUNK", "attention", "attention_parts", "route"]

FEW = 128
"""Below so many queries or keys a kernel's blocks are mostly empty, and plain products are faster."""
SCORES = 2**28
"""On an accelerator so many scores (1 GiB in float32) may stand in memory at once."""

Route = Literal["direct", "few", "chunked", "cudnn", "cudnn_fp8", "splash"]


def attention(
    q: Float[Array, "B L N K"],
    k: Float[Array, "B M N K"],
    v: Float[Array, "B M N K"],
    compute: Compute,
    *,
    lengths: Int[Array, "B"] | None = None,
    bias: Float[Array, "B N L M"] | Float[Array, "1 N L M"] | None = None,
    scale: float | None = None,
    keep: str | None = None,
    cut: Cut = "none",
) -> Float[Array, "B L N K"]:
    """Softmax attention of every query over every key; the softmax runs in float32, the result has q's dtype.

    `lengths` are the keys that may be read, the first ones of every row; a row with none reads zero. `bias` is added
    to the scores before the softmax. `scale` multiplies the scores (default `K ** -0.5`). `keep` names for
    `jax.checkpoint` what the backward pass needs of the result (cuDNN's is known by its primitive, `models/remat.py`).
    On a mesh, `cut` says whether queries, or queries and keys, lie along the tokens of a video (`layouts`).
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    by = route(compute, q.shape, k.shape[1], str(q.dtype), biased=bias is not None, limited=lengths is not None)
    where = layouts.place()
    if where and bias is None and (cut == "both" or by not in ("direct", "few")):  # XLA cuts plain products by itself
        return layouts.spread(
            q, k, v, lengths, where=where, cut=cut,
            whole=lambda q, k, v, lengths: attention(q, k, v, compute, lengths=lengths, scale=scale, keep=keep),
            piece=_piece(compute, scale, keep),
        )  # fmt: skip
    if by == "cudnn":
        return cudnn(q, k, v, lengths, scale)
    if by == "cudnn_fp8":
        return cudnn_fp8(q, k, v, scale)
    if by == "splash":
        return splash(q, k, v, lengths, scale, chip=compute.chip, keep=keep)
    if by == "few":
        out = few(q, k, v, lengths, scale)
    else:
        out, _ = direct(q, k, v, lengths, bias, scale) if by == "direct" else chunked(q, k, v, lengths, scale)
    return checkpoint_name(out, keep) if keep else out


def attention_parts(
    q: Float[Array, "B L N K"],
    k: Float[Array, "B M N K"],
    v: Float[Array, "B M N K"],
    compute: Compute,
    *,
    lengths: Int[Array, "B"] | None = None,
    scale: float | None = None,
) -> tuple[Float[Array, "B L N K"], Float[Array, "B N L"]]:
    """Attention over some of the keys, and the logarithm of the sum of its exponentials in float32: with these, parts
    over other keys are merged. The parts of cuDNN and splash have no backward pass of their own (`pieces` has one).
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    by = route(compute, q.shape, k.shape[1], str(q.dtype), biased=False, limited=lengths is not None)
    if by in ("cudnn", "cudnn_fp8"):
        return cudnn_parts(q, k, v, lengths, scale)
    if by == "splash":
        return splash_parts(q, k, v, lengths, scale, chip=compute.chip)
    return chunked(q, k, v, lengths, scale) if by == "chunked" else direct(q, k, v, lengths, None, scale)


def _piece(compute: Compute, scale: float, keep: str | None) -> Piece:
    """Attention over some of the keys, forward and backward, by whatever computes it."""

    def read(q: Array, k: Array, v: Array, lengths: Array | None) -> tuple[Array, Array]:
        return attention_parts(q, k, v, compute, lengths=lengths, scale=scale)

    def back(q: Array, k: Array, v: Array, lengths: Array | None, *of_all: Array) -> tuple[Array, Array, Array]:
        by = route(compute, q.shape, k.shape[1], str(q.dtype), biased=False, limited=lengths is not None)
        if by == "splash":
            return pieces.splash_back(q, k, v, lengths, scale, *of_all, chip=compute.chip)
        backward = pieces.cudnn_back if by == "cudnn" else pieces.plain_back
        return backward(q, k, v, lengths, scale, *of_all)

    return Piece(read, back, keep)


def route(
    compute: Compute, q_shape: tuple[int, ...], keys: int, dtype: str, *, biased: bool, limited: bool
) -> Route:
    """What computes attention of queries `[B L N K]` over so many keys.

    The settled kernel does, except where
    * scores get a bias (the text encoder's): `direct`;
    * there are fewer than 128 queries or keys (an audio slot's dozen): plain products are faster;
    * the dtype is not of 16 bits, or the kernel does not take heads of this size;
    * key lengths are given to `cudnn_fp8`, which has none: `cudnn`.
    What is then left is `few` on an accelerator, for many queries over at most 16 keys, as in a slot; `direct` where
    its scores fit (on a CPU, in the cache); and else `chunked`.
    """
    rows, queries, heads, size = q_shape
    if biased:
        return "direct"
    kernel = compute.attention
    if kernel == "cudnn_fp8" and limited:
        kernel = "cudnn"
    fits = dtype in HALVES and takes_heads(kernel, size) and min(queries, keys) >= FEW
    if kernel != "chunked" and fits:
        return kernel
    if compute.platform == "cpu":
        return "direct" if keys <= KEY_CHUNK and queries <= 2 * QUERY_CHUNK else "chunked"
    if keys <= MOST and queries >= FEW:
        return "few"
    return "direct" if rows * heads * queries * keys <= SCORES else "chunked"
