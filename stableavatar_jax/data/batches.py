"""Which items make up the batch of every step, the same on all hosts, and an iterator over the batches in plain NumPy.

Everything follows from (seed, step): a run that resumes at a step, on any number of hosts, goes on with the same data.
Needs nothing beyond NumPy; `pipeline.py` reads the same batches through grain.
"""

import functools
import hashlib
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np

Batch = dict[str, np.ndarray]


class DataError(ValueError):
    """Training data cannot be read, or is not what the run began with. The message names the file and what to do."""


@runtime_checkable
class Source(Protocol):
    """Items of a data set, by number."""

    @property
    def buckets(self) -> Sequence[Hashable]:
        """For each item, what it must have in common with others to be in one batch: the shapes of its arrays."""

    def read(self, item: int, rng: np.random.Generator) -> Batch:
        """The arrays of an item, without a batch axis; what is random in it comes from `rng`."""


class BatchOrder:
    """The items of every step: an epoch visits all, in an order drawn from (seed, epoch), each batch out of one bucket.

    Every host works out the whole order and takes its own rows of each batch, so all have the same shapes at the same
    step. A bucket's last batch is filled up with other items of the bucket, which are then seen twice in that epoch.
    """

    def __init__(self, buckets: Sequence[Hashable], batch: int, seed: int = 0, host: int = 0, hosts: int = 1):
        """`batch` counts the items of all hosts together, which divide it. Raises DataError without items."""
        if not buckets:
            raise DataError("the data set has no items; look at what was left out when it was made")
        if batch < 1 or batch % hosts:
            raise DataError(f"a batch of {batch} cannot be split over {hosts} hosts; make it a multiple")
        self.batch, self.seed, self.host, self.hosts = batch, seed, host, hosts
        members: dict[str, list[int]] = {}
        for item, bucket in enumerate(buckets):
            members.setdefault(repr(bucket), []).append(item)
        self._members = [np.array(members[name]) for name in sorted(members)]
        self._buckets = sorted(members)
        self._batches = functools.lru_cache(2)(self._draw)  # threads that read ahead are in two epochs at most

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every item is seen."""
        return sum(-(-len(items) // self.batch) for items in self._members)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Stands for the items, their buckets, the batch size and the seed, but not for the number of hosts."""
        parts = [self._buckets, [items.tolist() for items in self._members], self.batch, self.seed]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def items(self, step: int) -> list[int]:
        """This host's items of a step, which counts from 0 without end."""
        rows = self.batch // self.hosts
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._batches(epoch)[place, self.host * rows : (self.host + 1) * rows].tolist()

    def epoch_of(self, step: int) -> int:
        """How many times all items were seen before a step."""
        return step // self.steps_per_epoch

    def _draw(self, epoch: int) -> np.ndarray:
        """All batches of an epoch, [steps, batch]."""
        rng = np.random.default_rng((self.seed, epoch))
        rows = []
        for items in self._members:
            order = rng.permutation(items)
            rows.append(np.resize(order, (-(-len(items) // self.batch), self.batch)))  # filled from its beginning
        return rng.permutation(np.concatenate(rows))


class Batches:
    """The batch of every step, by step: random access, without end."""

    def __init__(self, source: Source, order: BatchOrder, finish: Callable[[Batch], Batch] = lambda batch: batch):
        """`finish` is applied to every whole batch."""
        self.source, self.order, self.finish = source, order, finish

    def __len__(self) -> int:
        return 1 << 40  # grain asks; a run ends by its steps

    def __getitem__(self, step: int) -> Batch:
        items = self.order.items(step)
        epoch = self.order.epoch_of(step)
        read = [self.source.read(item, np.random.default_rng((self.order.seed, epoch, item))) for item in items]
        return self.finish({name: np.stack([each[name] for each in read]) for name in read[0]})


class BatchIterator:
    """Iterates over `Batches`, reading ahead in threads; its state is the step that comes next."""

    def __init__(self, batches: Batches, ahead: int = 2):
        """`ahead` batches are read before they are asked for; 0 reads when asked."""
        self.batches, self.ahead, self.step = batches, ahead, 0
        self._pool = ThreadPoolExecutor(max(ahead, 1), thread_name_prefix="batches")
        self._waiting: deque[Future[Batch]] = deque()

    def __iter__(self) -> "BatchIterator":
        return self

    def __next__(self) -> Batch:
        while len(self._waiting) <= self.ahead:
            self._waiting.append(self._pool.submit(self.batches.__getitem__, self.step + len(self._waiting)))
        batch = self._waiting.popleft().result()
        self.step += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """What `set_state` needs to go on here, as plain JSON values."""
        return {"step": self.step, "order": self.batches.order.fingerprint}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken. Raises DataError where data, batch size or seed are others."""
        self.step = checked_step(state, self.batches.order)
        for each in self._waiting:
            each.cancel()
        self._waiting.clear()

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def checked_step(state: dict[str, Any], order: BatchOrder) -> int:
    """The step of an iterator's state; raises DataError unless it belongs to this order."""
    if state.get("order") != order.fingerprint:
        raise DataError(
            f"the run was at step {state.get('step')} of other data ({state.get('order')}, now {order.fingerprint}): "
            "the records, the batch size or the seed have changed; restore them, or begin a new run"
        )
    return int(state["step"])
