"""Several processes that work as one: which of them writes, and how they wait for one another."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How many devices lie along each mesh axis (`sharding.py`). One size may be -1: all devices that are left; or both
    `fsdp` and `context`: `fsdp` is then cut to what the rows of a batch fill, and `context` takes the rest."""

    data: int = 1
    """Devices along which the rows of the batch are cut, and the weights kept whole."""
    fsdp: int = -1
    """Devices along which the rows of the batch and the weights are cut."""
    context: int = -1
    """Devices along which the tokens of one video are cut."""
    tensor: int = 1
    """Devices along which attention heads and the width of the feed-forward are cut."""
    ulysses: int = -1
    """Devices of `context` that exchange heads for tokens; the others pass keys around a ring. -1 for as many as the
    attention heads allow."""


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
