"""What a program is compiled with, by the platform it is made for, and where compiled programs are kept."""

import os
import sys
from pathlib import Path
from typing import Any

GPU: dict[str, Any] = {"xla_gpu_enable_latency_hiding_scheduler": True, "xla_gpu_enable_triton_gemm": False}
"""On one H200 the forward pass took 526 instead of 534 ms with these, and 0.5 GiB less of temporaries."""

EXTRAS = {"cuda": "cuda", "gpu": "cuda", "tpu": "tpu"}
"""What the package is installed with for a platform of JAX."""

TPU: dict[str, Any] = {"xla_tpu_scoped_vmem_limit_kib": "32768"}
"""Splash attention's blocks of 2048 keep their statistics in 17.6 MiB of a v5p's vector memory; 16 is the default."""


def compiler_options(platform: str, *, deterministic: bool = False) -> dict[str, Any] | None:
    """Options for `jax.jit` of a program that loops over stacked layers. What the user has set in XLA_FLAGS is left.

    The CPU has no bfloat16 arithmetic. Left alone, XLA turns the stacked weights of all layers into float32 before the
    loop, three times the memory (19 GB beside the text encoder's 11); with these it turns one layer at a time.

    `deterministic` is for a GPU, where the order of some sums differs from run to run: with it the same step gives the
    same bits, at about a quarter more time in the attention's backward pass.
    """
    if platform == "cpu":
        return {"xla_disable_hlo_passes": "while-loop-invariant-code-motion"}
    options: dict[str, Any] = {"gpu": GPU, "tpu": TPU}.get(platform, {})
    if platform == "gpu" and deterministic:
        options = options | {"xla_gpu_exclude_nondeterministic_ops": True}
    own = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if f"--{name}" not in own}


def quickly() -> dict[str, Any] | None:
    """Options for `jax.jit` of a program that runs once, such as one that draws weights.

    On the CPU compiling it takes longer than running it, and a quarter as long without optimisation.
    """
    import jax

    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None


def keep_compiled() -> None:
    """Keep compiled programs on disk, so that the next run of the same shape starts at once (JAX's own variable
    JAX_COMPILATION_CACHE_DIR chooses the folder).
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "stableavatar_jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))


def no_device() -> str | None:
    """What to tell where JAX has no device of the kind that was asked for; None where it has one, or is not loaded."""
    jax = sys.modules.get("jax")
    if jax is None:
        return None
    try:
        jax.devices()
    except (RuntimeError, AssertionError):  # the latter where the GPU's plugin is not installed
        asked = jax.config.jax_platforms
        jax.config.update("jax_platforms", "")
        there = ", ".join(sorted({device.platform for device in jax.devices()}))
        extra = next((extra for name, extra in EXTRAS.items() if name in asked), "")
        advice = f"; JAX for it comes with pip install -e '.[{extra}]'" if extra else ""
        return f"JAX_PLATFORMS={asked}: there is no such device, only {there}; unset the variable{advice}"
    return None
