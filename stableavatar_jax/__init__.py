"""Talking-avatar video of any length from one picture and one recording: StableAvatar in JAX and Flax.

`stableavatar_jax.load` is the Python interface; the command lines are described in README.md.
"""

from typing import Any

__all__ = ["Mistake", "load"]


def __getattr__(name: str) -> Any:
    """The interface is imported when it is first used: commands answer a wrong option before JAX is loaded."""
    if name == "load":
        from stableavatar_jax.interface import load

        return load
    if name == "Mistake":
        from stableavatar_jax.errors import Mistake

        return Mistake
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
