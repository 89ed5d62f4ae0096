"""What a program is compiled with, by backend, and where compiled programs are kept."""

import os
from pathlib import Path
from typing import Any

import jax


def compiler_options() -> dict[str, str] | None:
    """Options for `jax.jit` of a program that loops over stacked layers.

    The CPU has no bfloat16 arithmetic. Left alone, XLA turns the stacked weights of all layers into float32 before the
    loop, three times the memory (19 GB beside the text encoder's 11); with these it turns one layer at a time.
    """
    if jax.default_backend() != "cpu":
        return None
    return {"xla_disable_hlo_passes": "while-loop-invariant-code-motion"}


def quickly() -> dict[str, Any] | None:
    """Options for `jax.jit` of a program that runs once, such as one that draws weights.

    On the CPU compiling it takes longer than running it, and a quarter as long without optimisation.
    """
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None


def keep_compiled() -> None:
    """Keep compiled programs on disk, so that the next run of the same shape starts at once (JAX's own variable
    JAX_COMPILATION_CACHE_DIR chooses the folder).
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "stableavatar_jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
