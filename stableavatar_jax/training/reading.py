"""Batches on their way to the devices: read ahead in a thread, each with the place in the data that follows it."""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stableavatar_jax.data.iterator import CheckpointableIterator

AHEAD = 2  # batches read before they are asked for


class Ready(NamedTuple):
    """A batch on the devices, and the iterator's state after it."""

    batch: dict[str, jax.Array]
    state: dict[str, Any]


class Reader:
    """Reads ahead and puts rows on the devices while a step runs; `waited` counts the seconds `next` had to wait."""

    def __init__(self, batches: CheckpointableIterator, mesh: Mesh):
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
                batch = next(self._batches)
                place = lambda x: jax.make_array_from_process_local_data(self._rows, np.asarray(x))  # noqa: E731
                ready = Ready({name: place(x) for name, x in batch.items()}, self._batches.get_state())
            except BaseException as error:  # the loop raises it where the batch was due
                ready = error
            self._queue.put(ready)
            if isinstance(ready, BaseException):
                return
