"""Batches for the training loop: through grain where it is installed, in plain NumPy where it is not.

Both give the same batches in the same order and have the same state, so a run may go from one to the other.
"""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from stableavatar_jax.data.order import Batch, Batches, BatchIterator, BatchOrder, Source, checked_step
from stableavatar_jax.data.sources.records import RecordReader


@runtime_checkable
class CheckpointableIterator(Protocol):
    """Batches one by one, and where it is."""

    def __iter__(self) -> "CheckpointableIterator": ...
    def __next__(self) -> Batch: ...

    def get_state(self) -> dict[str, Any]:
        """What `set_state` needs to go on here."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken."""

    def close(self) -> None:
        """Stop reading ahead."""


class GrainIterator:
    """Iterates over `Batches` with grain's threads and prefetching; the protocol is `BatchIterator`'s."""

    def __init__(self, batches: Batches, threads: int = 4, ahead: int = 4):
        import grain

        self.batches = batches
        self._options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        self._dataset = grain.MapDataset.source(batches)
        self._seek(0)

    def _seek(self, step: int) -> None:
        self.step = step
        self._iterator = iter(self._dataset.slice(slice(step, None)).to_iter_dataset(self._options))

    def __iter__(self) -> "GrainIterator":
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
    source: Source, *, batch: int, seed: int = 0, host: int = 0, hosts: int = 1, grain: bool | None = None
) -> CheckpointableIterator:
    """Endless batches of a source: `batch` items over all hosts, of which this `host` gets its share.

    `grain` True or False chooses the reader; None takes grain where it is installed.
    """
    batches = Batches(source, BatchOrder(source.buckets, batch, seed, host, hosts))
    if grain is None:
        grain = has_grain()
    return GrainIterator(batches) if grain else BatchIterator(batches)


def open_records(folder: Path, **options: Any) -> CheckpointableIterator:
    """Endless batches of precomputed records (`records.FIELDS`); options as in `open_batches`."""
    return open_batches(RecordReader(folder), **options)


def has_grain() -> bool:
    """Whether grain can be imported."""
    try:
        import grain  # noqa: F401
    except ImportError:
        return False
    return True
