"""Time the DiT's forward pass at real width, beside the machine's own matrix-product peak measured in the same run.

    python -m benchmarks.dit                       # 4 layers, 2304 tokens, float32
    python -m benchmarks.dit --layers 30 --rows 60 --columns 104 --dtype bfloat16   # 1.3B, 480x832, on a GPU or TPU
"""

import dataclasses
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import tyro

from stableavatar_jax.frames import IMAGE_TOKENS
from stableavatar_jax.models.compute import settle
from stableavatar_jax.models.config import DiTConfig
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.models.flops import dit_flops
from stableavatar_jax.sharding import initialise


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What to time."""

    layers: int = 4
    """Blocks (the 1.3B model has 30)."""
    frames: int = 9
    """Latent frames."""
    rows: int = 32
    """Latent rows (pixels / 8)."""
    columns: int = 32
    """Latent columns (pixels / 8)."""
    dtype: str = "float32"
    """Dtype of weights and computation."""
    repeats: int = 3
    """Runs timed after one to warm up; the fastest counts."""


def fastest(run, repeats: int) -> float:
    """Seconds of the fastest of `repeats` runs, after one that compiles."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return min(times)


def matmul_peak(dtype: str, repeats: int, tokens: int, dim: int, ffn_dim: int) -> float:
    """Operations a second of the feed-forward's own matrix product, alone."""
    a = jnp.ones((tokens, dim), dtype)
    b = jnp.ones((dim, ffn_dim), dtype)
    product = jax.jit(jnp.matmul)
    return 2.0 * tokens * dim * ffn_dim / fastest(lambda: product(a, b), 4 * repeats)


def main() -> None:
    """Print seconds, GFLOP/s and the share of the peak."""
    args = tyro.cli(Benchmark, description=__doc__)
    config, key = DiTConfig(layers=args.layers), jax.random.key(0)
    model = DiT(config, settle(jax.devices()[0], args.dtype))
    params = initialise(model, key)
    size = args.frames, args.rows, args.columns
    z = jax.random.normal(key, (1, *size, 16), args.dtype)
    reference = jnp.zeros((*z.shape[:-1], 20), z.dtype)
    bound = model.bind({"params": params})
    text = jnp.ones((1, config.text_len, config.text_dim), z.dtype)
    context = bound.context(text, jnp.ones(text.shape[:2], bool), jnp.ones((1, IMAGE_TOKENS, 1280), z.dtype))
    slots = bound.slots(jnp.ones((1, 161 * args.frames // 21, 768), z.dtype), args.frames)

    inputs = z, jnp.full((1,), 500.0), reference, context, slots
    velocity = jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs, method="velocity"))

    tokens = args.frames * args.rows * args.columns // 4
    before = matmul_peak(args.dtype, args.repeats, tokens, config.dim, config.ffn_dim)
    seconds = fastest(lambda: velocity(params, *inputs), args.repeats)
    peak = max(before, matmul_peak(args.dtype, args.repeats, tokens, config.dim, config.ffn_dim))
    work = dit_flops(config, size, slot=slots.tokens.shape[2])
    print(f"{dataclasses.asdict(args)} on {jax.devices()[0].device_kind}")
    print(f"{tokens} tokens, {work / 1e9:.0f} GFLOP: {seconds:.2f} s, {work / seconds / 1e9:.1f} GFLOP/s")
    print(f"matrix product {tokens}x{config.dim}x{config.ffn_dim}: {peak / 1e9:.1f} GFLOP/s")
    print(f"share of peak: {work / seconds / peak:.2f}")


if __name__ == "__main__":
    main()
