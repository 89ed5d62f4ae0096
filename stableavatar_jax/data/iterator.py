"""Batches for the training loop, read ahead by grain."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import grain

from stableavatar_jax.data.order import Batch, Batches, BatchOrder, Source, checked_step
from stableavatar_jax.data.sources.records import RecordReader

THREADS = 4
"""Batches that are read at once."""
AHEAD = 4
"""Batches that are read before they are asked for."""


@runtime_checkable
class CheckpointableIterator(Protocol):
    """Batches one by one, and the place reached in them."""

    def __iter__(self) -> "CheckpointableIterator": ...
    def __next__(self) -> Batch: ...

    def get_state(self) -> dict[str, Any]:
        """What `set_state` needs to go on here."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken."""

    def close(self) -> None:
        """Stop reading ahead."""


class BatchIterator:
    """Iterates over `Batches` with grain's threads and prefetching; its state is the step that comes next."""

    def __init__(self, batches: Batches):
        self.batches = batches
        self._options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
        self._dataset = grain.MapDataset.source(batches)
        self._seek(0)

    def _seek(self, step: int) -> None:
        self.step = step
        self._iterator = iter(self._dataset.slice(slice(step, None)).to_iter_dataset(self._options))

    def __iter__(self) -> "BatchIterator":
        return self

    def __next__(self) -> Batch:
        batch = next(self._iterator)
        self.step += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """What `set_state` needs to go on here, as plain JSON values."""
        return {"step": self.step, "order": self.batches.order.fingerprint}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken. Raises Mistake where data, batch size or seed are others."""
        self._seek(checked_step(state, self.batches.order))

    def close(self) -> None:
        """Stop reading ahead."""
        self._iterator.close()


def open_batches(
    source: Source, *, batch: int, seed: int = 0, host: int = 0, hosts: int = 1
) -> CheckpointableIterator:
    """Endless batches of a source: `batch` items over all hosts, of which this `host` gets its share."""
    return BatchIterator(Batches(source, BatchOrder(source.buckets, batch, seed, host, hosts)))


def open_records(folder: Path, **options: Any) -> CheckpointableIterator:
    """Endless batches of precomputed records (`records.FIELDS`); options as in `open_batches`."""
    return open_batches(RecordReader(folder), **options)
