"""What runs of the tiny model read, and what makes two of them the same."""

from pathlib import Path

import jax
import numpy as np

from stableavatar_jax.data.sources.records import RecordWriter
from stableavatar_jax.training.logs import read_rows
from tests.training.tiny import batch

TIMES = {"seconds", "waiting_for_input", "samples_per_second", "tflops_per_chip", "mfu", "mfu_with_recompute"}


def records(folder, rows=1, **changes):
    """Records of the tiny model; `changes` are arrays that differ."""
    arrays = {name: array[0] for name, array in batch(0, 1).items()} | changes
    dtypes = {name: "bool" if name == "text_mask" else "float32" for name in arrays}
    meta = {"format": "npz", "dtypes": dtypes, "after_picture": "grey", "weights": "a model"}
    with RecordWriter(folder, meta) as writer:
        for row in range(rows):
            writer.write(f"clip@{row}", arrays, {"kind": "talking", "fps": 25.0})
    return folder


def assert_same_run(one: Path, other: Path):
    """The same numbers for every step, but for the times."""

    def rows(folder):
        return [{k: v for k, v in row.items() if k not in TIMES} for row in read_rows(folder / "metrics.csv")]

    np.testing.assert_equal(rows(one), rows(other))


def assert_same_state(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
