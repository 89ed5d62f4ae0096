"""Attention alone, of every token over every token: forward, and forward with backward."""

import functools

import jax
import jax.numpy as jnp

from benchmarks.gpu.measure import Rows, Size, milliseconds
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.attention import attention
from stableavatar_jax.models.compute import Attention, Compute, settle
from stableavatar_jax.shapes import Array

KERNELS: tuple[Attention, ...] = ("cudnn", "cudnn_fp8", "splash", "chunked")


def computes(size: Size, *, forced: bool = True) -> dict[str, Compute]:
    """Every way of computing attention that the device has; `chunked` on an accelerator is left to its own section."""
    device, c = jax.devices()[0], size.model.dit
    found: dict[str, Compute] = {}
    for kernel in KERNELS:
        try:
            found[kernel] = settle(device, size.dtype, attention=kernel, head_size=c.dim // c.heads)
        except Mistake as reason:
            if forced:
                print(f"  {reason}")
    return found


def main(size: Size, rows: Rows) -> None:
    """Times, rates, and the relative error against float32 on the first 1024 queries."""
    c = size.model.dit
    shape = (1, size.tokens, c.heads, c.dim // c.heads)
    q, k, v = (jax.random.normal(jax.random.key(i), shape, jnp.float32).astype(size.dtype) for i in range(3))
    with jax.default_matmul_precision("highest"):
        q32, k32, v32 = (x.astype(jnp.float32) for x in (q[:, :1024], k, v))
        exact = attention(q32, k32, v32, Compute())
    work = 4.0 * size.tokens**2 * c.dim
    for name, compute in computes(size).items():
        run = jax.jit(functools.partial(attention, compute=compute))
        ms = milliseconds(functools.partial(run, q, k, v), jax.block_until_ready, size.repeats)
        error = jnp.linalg.norm(run(q, k, v)[:, :1024].astype(jnp.float32) - exact) / jnp.linalg.norm(exact)
        rows.add(f"attention {name}, forward", ms=ms, flop=work, error=f"{float(error):.2e}")
        if name == "cudnn_fp8":
            continue
        both = jax.jit(jax.grad(functools.partial(_loss, compute=compute), (0, 1, 2)))
        ms = milliseconds(functools.partial(both, q, k, v), jax.block_until_ready, size.repeats)
        rows.add(f"attention {name}, forward and backward", ms=ms, flop=3.5 * work)


def _loss(q: Array, k: Array, v: Array, compute: Compute) -> Array:
    return jnp.square(attention(q, k, v, compute).astype(jnp.float32)).sum()
