"""The decoder: one call of one or more latent frames in the middle of a video, to frames of bytes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu.measure import Rows, Size, gib, milliseconds, temporaries
from benchmarks.vae import convolution_flops
from stableavatar_jax.models.compute import settle
from stableavatar_jax.models.config import Conv
from stableavatar_jax.models.vae import VAE
from stableavatar_jax.sharding import initialise

CASES: tuple[tuple[str, Conv, int], ...] = (
    ("bfloat16", "direct", 1), ("bfloat16", "direct", 2), ("bfloat16", "direct", 4), ("bfloat16", "taps", 1),
    ("float32", "direct", 1),
)  # fmt: skip
"""Those that matter first: each takes many seconds to compile."""


def main(size: Size, rows: Rows) -> None:
    """Time a latent frame, memory, and the distance from the first case in decibels of a signal between -1 and 1."""
    exact, drawn = None, initialise(VAE(size.model.vae), jax.random.key(1))
    z = jax.random.normal(jax.random.key(0), (1, 5, size.rows, size.columns, size.model.vae.z_dim))
    for dtype, form, count in CASES:
        config = dataclasses.replace(size.model.vae, conv=form)
        vae: Any = VAE(config, settle(jax.devices()[0], dtype))
        params = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), drawn)

        def one(params: Any, z: Any, cache: Any, vae: Any = vae) -> Any:
            video, cache = vae.apply({"params": params}, z, cache, method="decode")
            return jnp.round((video + 1) * 127.5).astype(jnp.uint8), cache

        decode = jax.jit(one, donate_argnums=2)
        shapes = jax.eval_shape(one, params, z[:, :1], None)[1]  # compiling what begins a video takes as long again
        cache = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        kept = gib(sum(leaf.nbytes for leaf in jax.tree.leaves(cache)))
        part = z[:, 1 : 1 + count]
        compiled = decode.lower(params, part, cache).compile()
        held = [cache]

        def run(held: Any = held, compiled: Any = compiled, params: Any = params, part: Any = part) -> Any:
            frames, held[0] = compiled(params, part, held[0])
            return frames

        first = run().astype(jnp.float32)[:, :4] / 127.5
        exact = first if exact is None else exact
        noise = jnp.square(first - exact).mean()
        ms = milliseconds(run, jax.block_until_ready, size.repeats) / count
        work = convolution_flops(config, 8 * size.rows, 8 * size.columns)
        rows.add(
            f"decoder {dtype}, {form}, {count} a call, each latent frame", ms=ms, flop=work, cache_gib=kept,
            temporaries_gib=temporaries(compiled),
            psnr=round(float(-10 * jnp.log10(noise / 4 + 1e-12)), 1),
        )  # fmt: skip
        del cache, held, compiled
