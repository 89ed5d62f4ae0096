"""Time and memory of decoding, per latent frame, with each form of the causal convolution.

    python -m benchmarks.vae --height 240 --width 416 --forms taps direct

Constant weights of the real size (`--dim 96`). The first latent frame is decoded alone, then `--latents` one at a
time; of those the fastest is reported, with the operations of its convolutions alone (attention's are under 1 %).
"""

import argparse
import functools
import resource
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from stableavatar_jax.models.compute import settle
from stableavatar_jax.models.config import VAEConfig
from stableavatar_jax.models.vae import VAE

FORMS = ["winograd", "taps", "direct"]


def convolution_flops(config: VAEConfig, height: int, width: int) -> int:
    """Operations (multiply and add are two) of the convolutions that decode one later latent frame."""
    places = height * width // config.space_factor**2
    widths = [config.dim * mult for mult in reversed(config.dim_mult)]
    total = 27 * config.z_dim * widths[0] + 4 * 27 * widths[0] ** 2  # per place: the first convolution, the middle
    total *= places
    frames, entering = 1, widths[0]
    for stage, features in enumerate(widths):
        blocks = 27 * (entering * features + (2 * config.num_res_blocks + 1) * features**2)
        total += frames * places * blocks
        if stage < len(widths) - 1:
            if config.temporal_downsample[-1 - stage]:
                total += frames * places * 3 * features * 2 * features
                frames *= 2
            places, entering = 4 * places, features // 2
            total += frames * places * 9 * features * entering
    return 2 * (total + frames * places * 27 * widths[-1] * 3)


def main() -> None:
    """Print one line for each form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=240, help="rows of pixels")
    parser.add_argument("--width", type=int, default=416, help="columns of pixels")
    parser.add_argument("--dim", type=int, default=96, help="channels at full resolution")
    parser.add_argument("--latents", type=int, default=2, help="latent frames after the first")
    parser.add_argument("--dtype", default="float32", help="of weights and computation")
    parser.add_argument("--forms", nargs="+", default=FORMS, choices=FORMS)
    args = parser.parse_args()
    for form in args.forms:
        config = VAEConfig(dim=args.dim, conv=form)
        model = VAE(config, settle(jax.devices()[0], args.dtype))
        abstract = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *model.example()))
        params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), abstract)
        decode = jax.jit(functools.partial(model.apply, method="decode"), donate_argnums=2)
        z = jnp.ones((1, 1, args.height // config.space_factor, args.width // config.space_factor, config.z_dim))
        _, cache = decode(params, z, None)
        kept = sum(leaf.nbytes for leaf in jax.tree.leaves(cache))
        compiled: Any = decode.lower(params, z, cache).compile()
        times = []
        for _ in range(args.latents):
            start = time.perf_counter()
            _, cache = jax.block_until_ready(compiled(params, z, cache))
            times.append(time.perf_counter() - start)
        speed = convolution_flops(config, args.height, args.width) / min(times)
        print(
            f"{form:8s} {jax.default_backend()} {args.height}x{args.width} {args.dtype}: "
            f"{min(times):.2f} s a latent frame, {speed / 1e9:.0f} GFLOP/s, cache {kept / 1e9:.2f} GB, "
            f"temporaries {compiled.memory_analysis().temp_size_in_bytes / 1e9:.2f} GB, "
            f"process peak so far {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
