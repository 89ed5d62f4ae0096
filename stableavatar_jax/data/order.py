"""Which items make up the batch of every step, the same on all hosts.

Everything follows from (seed, step): a run that resumes at a step, on any number of hosts, goes on with the same data.
"""

import functools
import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from stableavatar_jax.errors import Mistake

Batch = dict[str, np.ndarray]



@runtime_checkable
class Source(Protocol):
    """Items of a data set, by number."""

    @property
    def buckets(self) -> Sequence[Hashable]:
        """For each item, what it must have in common with others to be in one batch: the shapes of its arrays."""

    def read(self, item: int, rng: np.random.Generator) -> Batch:
        """The arrays of an item, without a batch axis; what is random in it comes from `rng`."""


class BatchOrder:
    """The items of every step, each batch out of one bucket.

    A bucket is read over and over, in an order drawn anew for every pass; what is left at the end of one begins a batch
    with the next, so that no item is dropped or seen more often than others. An epoch has the batches that each bucket
    has then filled, in an order drawn from (seed, epoch). Every host works out the whole order and takes its own rows
    of each batch, so all have the same shapes at the same step.
    """

    def __init__(self, buckets: Sequence[Hashable], batch: int, seed: int = 0, host: int = 0, hosts: int = 1):
        """`batch` counts the items of all hosts together, which divide it. Raises Mistake without items."""
        if not buckets:
            raise Mistake("the data set has no items; look at what was left out when it was made")
        if batch < 1 or batch % hosts:
            raise Mistake(f"a batch of {batch} cannot be split over {hosts} hosts; make it a multiple")
        self.batch, self.seed, self.host, self.hosts = batch, seed, host, hosts
        members: dict[str, list[int]] = {}
        for item, bucket in enumerate(buckets):
            members.setdefault(repr(bucket), []).append(item)
        self._buckets = sorted(members)
        self._members = [np.array(members[name]) for name in self._buckets]
        self._sizes = np.array([len(items) for items in self._members])
        # Threads that read ahead are in two passes and two epochs at most.
        self._pass = functools.lru_cache(2 * len(members))(self._draw_pass)
        self._epoch = functools.lru_cache(2)(self._draw_epoch)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Stands for the items, their buckets, the batch size and the seed, but not for the number of hosts."""
        parts = [self._buckets, [items.tolist() for items in self._members], self.batch, self.seed]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @property
    def rows(self) -> range:
        """Places of this host's items in a batch."""
        rows = self.batch // self.hosts
        return range(self.host * rows, (self.host + 1) * rows)

    def items(self, step: int) -> list[int]:
        """This host's items of a step, which counts from 0 without end."""
        epoch = self.epoch_of(step)
        bucket, number = self._epoch(epoch)[step - int(self._filled(epoch).sum())]
        places = [divmod(int(number) * self.batch + row, int(self._sizes[bucket])) for row in self.rows]
        return [int(self._pass(int(bucket), passed)[place]) for passed, place in places]

    def epoch_of(self, step: int) -> int:
        """How many times all items were seen before a step, but for batches not yet filled."""
        epoch = step * self.batch // int(self._sizes.sum())
        while self._filled(epoch + 1).sum() <= step:
            epoch += 1
        return epoch

    def _filled(self, epoch: int) -> np.ndarray:
        """How many batches each bucket has filled when an epoch begins."""
        return epoch * self._sizes // self.batch

    def _draw_epoch(self, epoch: int) -> np.ndarray:
        """Bucket, and number of the batch in it, of every step of an epoch: [steps, 2]."""
        ranges = zip(self._filled(epoch), self._filled(epoch + 1), strict=True)
        batches = [(bucket, number) for bucket, (first, end) in enumerate(ranges) for number in range(first, end)]
        return np.random.default_rng((self.seed, epoch)).permutation(np.array(batches).reshape(-1, 2))

    def _draw_pass(self, bucket: int, passed: int) -> np.ndarray:
        """The items of a bucket in the order of one pass."""
        return np.random.default_rng((self.seed, passed, bucket)).permutation(self._members[bucket])


class Batches:
    """The batch of every step, by step: random access, without end."""

    def __init__(self, source: Source, order: BatchOrder, finish: Callable[[Batch], Batch] = lambda batch: batch):
        """`finish` is applied to every whole batch."""
        self.source, self.order, self.finish = source, order, finish

    def __len__(self) -> int:
        return 1 << 40  # grain asks; a run ends by its steps

    def __getitem__(self, step: int) -> Batch:
        items = zip(self.order.items(step), self.order.rows, strict=True)
        read = [self.source.read(item, np.random.default_rng((self.order.seed, step, row))) for item, row in items]
        return self.finish({name: np.stack([each[name] for each in read]) for name in read[0]})


def checked_step(state: dict[str, Any], order: BatchOrder) -> int:
    """The step of an iterator's state; raises Mistake unless it belongs to this order."""
    if state.get("order") != order.fingerprint:
        raise Mistake(
            f"the run was at step {state.get('step')} of other data ({state.get('order')}, now {order.fingerprint}): "
            "the records, the batch size or the seed have changed; restore them, or begin a new run"
        )
    return int(state["step"])
