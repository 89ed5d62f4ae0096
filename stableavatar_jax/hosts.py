"""Several processes that work as one: which of them writes, and how they wait for one another."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How many devices lie along each mesh axis (`sharding.py`); one of them may be -1: all that are left."""

    data: int = 1
    """Rows of the batch."""
    fsdp: int = -1
    """Rows of the batch, with weights cut along it."""
    context: int = 1
    """Tokens of one video."""
    tensor: int = 1
    """Heads and feed-forward width."""


def index() -> int:
    """Number of this process."""
    import jax

    return jax.process_index()


def count() -> int:
    """Processes that work together."""
    import jax

    return jax.process_count()


def is_first() -> bool:
    """Whether this process is the one that writes what all share."""
    return index() == 0


def meet(name: str) -> None:
    """Wait until every process has come here; `name` says where, and must be the same on all."""
    if count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
