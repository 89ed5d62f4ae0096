"""Several processes that work as one: how they find one another, which of them writes, and how they end together."""

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from stableavatar_jax.errors import Mistake


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


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """How the processes of one run find one another. Under Slurm, Open MPI, Kubernetes and on Cloud TPU nothing need be
    given; elsewhere the first three are, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID."""

    coordinator: str | None = None
    """HOST:PORT at which the others reach process 0; any free port of its machine."""
    processes: int | None = None
    """Number of processes that work together."""
    process: int | None = None
    """Number of this process, from 0."""
    heartbeat: int = 100
    """Seconds without a sign of life after which a process counts as dead, and the run ends on all."""

    def __post_init__(self):
        if self.heartbeat < 2:
            raise Mistake(f"distributed.heartbeat is {self.heartbeat}, 2 seconds or more are needed")


def start(config: DistributedConfig) -> None:
    """Join the other processes of the run, where there are any; before any device is asked for. Raises Mistake."""
    import jax
    from jax._src.clusters import ClusterEnv  # only here does JAX say that it knows the cluster without joining it

    given = _given(config)
    names = "--distributed.coordinator HOST:PORT, --distributed.processes N and --distributed.process I"
    if any(value is not None for value in given) and None in given:
        raise Mistake(f"processes of one run that are started by hand are told all of {names}")
    coordinator, processes, process = given
    if coordinator is None:
        known = (each for each in ClusterEnv._cluster_types if not each.opt_in_only_method and each.is_env_present())
        cluster: Any = next(known, None)
        if cluster is None or cluster.get_process_count() == 1:
            return
    elif not 0 <= process < processes or not coordinator.rpartition(":")[2].isdigit():
        raise Mistake(f"coordinator {coordinator}, process {process} of {processes}: {names}, I from 0 to N - 1")
    elif processes == 1:
        return
    try:
        jax.distributed.initialize(
            coordinator, processes, process, cluster_detection_method="deactivate" if coordinator else None,
            heartbeat_timeout_seconds=config.heartbeat, shutdown_timeout_seconds=config.heartbeat,
        )  # fmt: skip
    except RuntimeError as error:
        where = f" at {coordinator}" if coordinator else ""
        raise Mistake(f"the other processes were not found{where} ({first_line(error)}); start all of them") from error


def _given(config: DistributedConfig) -> tuple[Any, Any, Any]:
    """Coordinator, number of processes and number of this one, by options or JAX's variables."""

    def read(name: str, kind: Callable[[str], Any]) -> Any:
        try:
            return kind(text) if (text := os.environ.get(name)) else None
        except ValueError:
            raise Mistake(f"{name} is {os.environ[name]!r}, a number is needed") from None

    first = lambda option, name, kind: read(name, kind) if option is None else option  # noqa: E731
    return (
        first(config.coordinator, "JAX_COORDINATOR_ADDRESS", str),
        first(config.processes, "JAX_NUM_PROCESSES", int),
        first(config.process, "JAX_PROCESS_ID", int),
    )


@contextlib.contextmanager
def together(advice: Callable[[], str]) -> Iterator[None]:
    """Where processes compute together: one that has died is told as a Mistake, with `advice` on how to go on."""
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        lost = ("gloo", "connection", "nccl", "unavailable", "heartbeat", "task", "deadline")
        if count() == 1 or not any(word in str(error).lower() for word in lost):
            raise
        atexit.register(_leave)
        raise Mistake(
            f"process {index()} of {count()} has lost another one, which has ended or cannot be reached "
            f"({first_line(error)}); {advice()}"
        ) from error


def wait_for_all(name: str) -> None:
    """Wait, up to an hour, until every process has come here, without asking the devices; `name` is used once.

    Processes compile at their own speed, and the CPU's collectives wait no longer than 30 s for one another.
    """
    if count() > 1:
        from jax._src.distributed import global_state

        global_state.client.wait_at_barrier(name, timeout_in_ms=3_600_000)  # type: ignore[union-attr]


def _leave() -> None:
    """End without the others: JAX would wait for the one that has died, and end this one with a stack trace."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def stop_all() -> None:
    """Tell all processes to stop after the same step, as SIGTERM does: JAX listens for it, and tells the others."""
    os.kill(os.getpid(), signal.SIGTERM)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 300 characters."""
    return (str(error).splitlines() or [""])[0][:300]


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


def agree(values: list[int]) -> list[int]:
    """The values of the first process, on every process; all give as many."""
    if count() == 1:
        return values
    import numpy as np
    from jax.experimental import multihost_utils

    return [int(value) for value in multihost_utils.broadcast_one_to_all(np.asarray(values, np.int32))]


def meet(name: str) -> None:
    """Wait until every process has come here; `name` says where, and must be the same on all."""
    if count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
