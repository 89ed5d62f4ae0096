"""What a run takes of a device's memory, and what there is."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from stableavatar_jax.errors import Mistake
from stableavatar_jax.training.state import TrainState

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def bytes_each(tree: Any) -> int:
    """Bytes that an abstract tree takes on each device."""
    shard = lambda leaf: math.prod(leaf.sharding.shard_shape(leaf.shape))  # noqa: E731
    return sum(shard(leaf) * jnp.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def check_memory(state: TrainState, devices: Iterable[jax.Device]) -> None:
    """Raise Mistake where a run's state, and the gradients beside it, are more than a device holds.

    Activations come on top; they are known when the step is compiled (`--compile-only`).
    """
    needed = bytes_each(state) + bytes_each(state.params)
    there = available([device for device in devices if device.process_index == jax.process_index()])
    if there is not None and needed > there:
        raise Mistake(
            f"weights, optimizer and gradients take {needed / 1e9:.1f} GB on each device, there are {there / 1e9:.1f} "
            "GB: give --config and --checkpoint of a smaller model, train less (--train lora), keep no average "
            "(--optimizer.ema 0), or use more devices"
        )


def available(devices: list[jax.Device]) -> int | None:
    """Bytes that each of a process's devices may take; None where nobody says.

    Devices of the CPU share the memory that this machine, or the control group of this process, has left.
    """
    stats = devices[0].memory_stats() if devices[0].platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0))
    left = [size for size in (_free_of_machine(), _free_of_group()) if size is not None]
    return min(left) // len(devices) if devices[0].platform == "cpu" and left else None


def _free_of_machine() -> int | None:
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _free_of_group() -> int | None:
    """What a container may still take; files kept in memory do not count, as they give way."""
    try:
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        stats = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return limit - used + int(stats.get("inactive_file", 0))
