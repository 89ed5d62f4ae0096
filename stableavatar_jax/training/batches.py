"""Batches on their way to the devices: read ahead in a thread, each with the place in the data that follows it."""

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AHEAD = 2  # batches read before they are asked for


@runtime_checkable
class Batches(Protocol):
    """What training reads: batches (dicts of NumPy arrays) without end, from a place that can be kept and set.

    `data.pipeline.open_records` gives such. In a multi-process run each process reads its own rows of the same batch,
    and the place is the same for all, so a run may go on with another number of processes.
    """

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]: ...

    def __next__(self) -> Mapping[str, np.ndarray]: ...

    def get_state(self) -> dict[str, Any]:
        """The place after the last batch given, as JSON values."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from such a place."""
        ...


class Ready(NamedTuple):
    """A batch on the devices, and the iterator's state after it."""

    batch: dict[str, jax.Array]
    state: dict[str, Any]


class Reader:
    """Reads ahead and puts rows on the devices while a step runs; `waited` counts the seconds `next` had to wait."""

    def __init__(self, batches: Batches, mesh: Mesh):
        self.waited = 0.0
        self._batches, self._stopped = batches, threading.Event()
        self._rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
        self._queue: queue.Queue[Ready | BaseException] = queue.Queue(AHEAD)
        self._thread = threading.Thread(target=self._read, name="batches", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Ready]:
        return self

    def __next__(self) -> Ready:
        """The next batch; raises what reading it raised, StopIteration included."""
        start = time.perf_counter()
        ready = self._queue.get()
        self.waited += time.perf_counter() - start
        if isinstance(ready, BaseException):
            raise ready
        return ready

    def close(self) -> None:
        """Stop reading."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                self._thread.join(0.05)

    def _read(self) -> None:
        ready: Ready | BaseException
        while not self._stopped.is_set():
            try:
                batch = next(self._batches)  # type: ignore[call-overload]
                place = lambda x: jax.make_array_from_process_local_data(self._rows, np.asarray(x))  # noqa: E731
                ready = Ready({name: place(x) for name, x in batch.items()}, self._batches.get_state())
            except BaseException as error:  # the loop raises it where the batch was due
                ready = error
            self._queue.put(ready)
            if isinstance(ready, BaseException):
                return
