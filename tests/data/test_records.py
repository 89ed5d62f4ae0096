"""Records on disk, and the order in which they are read."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from stableavatar_jax.data import iterator as pipeline
from stableavatar_jax.data.order import Batches, BatchIterator, BatchOrder
from stableavatar_jax.data.sources import records
from stableavatar_jax.errors import Mistake

DTYPES = {"latents_mean": "bfloat16", "audio": "float16", "text_mask": "bool"}


def record(number: int, rows: int = 4) -> dict[str, np.ndarray]:
    """A record that tells its number."""
    return {
        "latents_mean": np.full((2, rows, 4, 16), number, np.float32),
        "audio": np.full((5, 8), number, np.float32),
        "text_mask": np.array([True, number % 2 == 0]),
    }


def write(folder, count: int, kind: records.Format = "npz", **options):
    with records.RecordWriter(folder, {"format": kind, "dtypes": DTYPES}, **options) as writer:
        for number in range(count):
            rows = 4 + 4 * (number % 3 == 0)
            writer.write(f"clip {number:02d}@0", record(number, rows), {"kind": "talking", "fps": 25})
    return writer


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, 10)
    return tmp_path


@pytest.mark.parametrize("kind", ["npz", "array_record"])
def test_a_record_comes_back_in_its_dtype(tmp_path, kind):
    write(tmp_path, 5, kind, shard=2)
    reader = records.RecordReader(tmp_path)
    for number in range(5):
        found = reader[number]
        assert {name: str(a.dtype) for name, a in found.items()} == DTYPES
        for name, array in record(number, 4 + 4 * (number % 3 == 0)).items():
            np.testing.assert_array_equal(found[name], array)


def test_what_is_there_is_not_written_again(folder):
    writer = write(folder, 0)
    assert writer.done == {f"clip {n:02d}@0" for n in range(10)}
    with (folder / "index-00000.jsonl").open("a") as index:
        index.write('{"id": "cut o')  # by a crash
    assert len(records.RecordReader(folder)) == 10


def test_other_options_do_not_mix(folder):
    with pytest.raises(Mistake, match=r"made with dtypes .* not .*use those options"):
        records.RecordWriter(folder, {"format": "npz", "dtypes": {**DTYPES, "audio": "float32"}})


def test_a_value_beyond_the_dtype_is_refused(tmp_path):
    with (
        records.RecordWriter(tmp_path, {"format": "npz", "dtypes": {"audio": "float16"}}) as writer,
        np.errstate(over="ignore"),
        pytest.raises(Mistake, match="loud: audio is not finite in float16"),
    ):
        writer.write("loud", {"audio": np.array([1e6], np.float32)}, {})


def test_a_damaged_record_is_named(folder):
    path = folder / json.loads((folder / "index-00000.jsonl").read_text().split("\n")[1])["file"]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(Mistake, match=path.name):
        records.RecordReader(folder)[0]


def test_a_full_disk_is_named(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.RecordWriter, "_write_file", full)
    with pytest.raises(Mistake, match="clip_00@0.*No space left on device.*make room"):
        write(folder, 1)
    assert len(records.RecordReader(folder)) == 10


def test_no_records(tmp_path):
    with pytest.raises(Mistake, match="precompute"):
        records.RecordReader(tmp_path)
    write(tmp_path, 0)
    with pytest.raises(Mistake, match="no records"):
        records.RecordReader(tmp_path)


@pytest.mark.parametrize("batch", [1, 4, 5, 16])
def test_every_item_is_seen_as_often_as_the_others(batch):
    order = BatchOrder(["a"] * 7 + ["b"] * 5, batch, seed=3)
    seen = np.zeros(12, int)
    for step in range(40):
        items = order.items(step)
        assert len({item < 7 for item in items}) == 1, "one bucket a batch"
        np.add.at(seen, items, 1)
    for bucket in (seen[:7], seen[7:]):
        assert np.ptp(bucket) <= 1
    assert abs(seen[:7].sum() / 7 - seen[7:].sum() / 5) <= 1 + 2 * batch / 5
    assert order.epoch_of(39) in (40 * batch // 12 - 1, 40 * batch // 12, 40 * batch // 12 + 1)


def test_epochs_have_orders_of_their_own():
    order = BatchOrder("a" * 12, 4)
    epochs = [[order.items(3 * epoch + step) for step in range(3)] for epoch in range(3)]
    assert all(sorted(sum(epoch, [])) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [order.items(step) for step in range(9)] != [BatchOrder("a" * 12, 4, seed=1).items(s) for s in range(9)]


def test_a_bucket_smaller_than_the_batch_is_seen():
    assert BatchOrder(["a"], batch=4).items(0) == [0, 0, 0, 0]


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_each_batch(folder, hosts):
    reader = records.RecordReader(folder)
    whole = BatchOrder(reader.buckets, 4, seed=1)
    split = [BatchOrder(reader.buckets, 4, seed=1, host=host, hosts=hosts) for host in range(hosts)]
    for step in range(12):
        parts = [Batches(reader, order)[step] for order in split]
        assert len({part["latents_mean"].shape for part in parts}) == 1
        together = np.concatenate([part["latents_mean"] for part in parts])
        np.testing.assert_array_equal(together, Batches(reader, whole)[step]["latents_mean"])
    assert len({order.fingerprint for order in [whole, *split]}) == 1


def test_grain_and_numpy_agree_and_resume(folder):
    """Also from one reader to the other."""
    with_grain, without = (pipeline.open_records(folder, batch=2, seed=5, grain=grain) for grain in (True, False))
    for a, b in islice(zip(with_grain, without, strict=True), 9):
        np.testing.assert_array_equal(a["latents_mean"], b["latents_mean"])
        assert a["latents_mean"].dtype == ml_dtypes.bfloat16
    state = json.loads(json.dumps(with_grain.get_state()))
    assert state == without.get_state()
    expected = [batch["audio"] for batch in islice(with_grain, 3)]
    for grain in (True, False):
        again = pipeline.open_records(folder, batch=2, seed=5, grain=grain)
        next(again)  # reading ahead must not show
        again.set_state(state)
        np.testing.assert_array_equal([batch["audio"] for batch in islice(again, 3)], expected)
        again.close()
    with_grain.close()
    without.close()


def test_the_state_of_other_data_is_refused(folder):
    state = pipeline.open_records(folder, batch=2, seed=5).get_state()
    with pytest.raises(Mistake, match="other data"):
        pipeline.open_records(folder, batch=2, seed=6).set_state(state)


def test_an_error_while_reading_reaches_the_loop(folder):
    for path in folder.glob("*.npz"):
        path.unlink()
    for grain in (True, False):
        with pytest.raises(Mistake, match="cannot be read"):
            next(pipeline.open_records(folder, batch=2, grain=grain))


def test_a_batch_must_split_over_hosts():
    with pytest.raises(Mistake, match="3 cannot be split over 2"):
        BatchOrder(["a"], 3, hosts=2)
    with pytest.raises(Mistake, match="no items"):
        BatchOrder([], 3)


def test_reading_ahead_keeps_the_order():
    class Slow:
        buckets = ["a"] * 8

        def read(self, item, rng):
            return {"item": np.array(item), "draw": rng.random()}

    runs = [list(islice(BatchIterator(Batches(Slow(), BatchOrder("a" * 8, 2)), ahead), 10)) for ahead in (0, 3)]
    assert all((a["draw"] == b["draw"]).all() for a, b in zip(*runs, strict=True))


def test_a_bare_machine_reads_records(folder):
    """NumPy and what JAX brings are enough: none of these packages is imported, or needed."""
    lacking = ["grain", "av", "PIL", "tensorflow_datasets", "array_record", "tyro", "tqdm", "librosa", "jaxtyping"]
    script = f"""
import sys
sys.modules.update(dict.fromkeys({lacking}))
from pathlib import Path
from stableavatar_jax.data.iterator import open_records
print(next(open_records(Path({str(folder)!r}), batch=2))["audio"].shape)
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert out.stdout == "(2, 5, 8)\n", out.stderr
