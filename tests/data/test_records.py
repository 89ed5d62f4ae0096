"""Records on disk, and the order in which they are read."""

import json
from itertools import islice

import ml_dtypes
import numpy as np
import pytest

from stableavatar_jax.data import iterator as pipeline
from stableavatar_jax.data.order import Batches, BatchOrder
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


def write(folder, count: int, kind: str = "npz", **options):
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
    (tmp_path / records.META).write_text('{"format": "npz", "dtypes": {}}')
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


def test_batches_follow_the_order_and_resume(folder):
    reader = records.RecordReader(folder)
    batches = pipeline.open_records(folder, batch=2, seed=5)
    expected = Batches(reader, BatchOrder(reader.buckets, 2, 5))
    for step, batch in enumerate(islice(batches, 9)):
        np.testing.assert_array_equal(batch["latents_mean"], expected[step]["latents_mean"])
        assert batch["latents_mean"].dtype == ml_dtypes.bfloat16
    state = json.loads(json.dumps(batches.get_state()))
    assert state == {"step": 9, "order": expected.order.fingerprint}
    again = pipeline.open_records(folder, batch=2, seed=5)
    next(again)  # reading ahead must not show
    again.set_state(state)
    for step, batch in enumerate(islice(again, 3), 9):
        np.testing.assert_array_equal(batch["audio"], expected[step]["audio"])
    again.close()
    batches.close()


def test_the_state_of_other_data_is_refused(folder):
    state = pipeline.open_records(folder, batch=2, seed=5).get_state()
    with pytest.raises(Mistake, match="other data"):
        pipeline.open_records(folder, batch=2, seed=6).set_state(state)


def test_an_error_while_reading_reaches_the_loop(folder):
    for path in folder.glob("*.npz"):
        path.unlink()
    with pytest.raises(Mistake, match="cannot be read"):
        next(pipeline.open_records(folder, batch=2))


def test_a_batch_must_split_over_hosts():
    with pytest.raises(Mistake, match="3 cannot be split over 2"):
        BatchOrder(["a"], 3, hosts=2)
    with pytest.raises(Mistake, match="no items"):
        BatchOrder([], 3)


def test_no_record_no_folder(tmp_path):
    """What was begun with wrong options is no obstacle, where nothing came of it."""
    folder = tmp_path / "records"
    write(folder, 0)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError), records.RecordWriter(folder, {"format": "npz", "dtypes": DTYPES}):
        raise RuntimeError("stopped")
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()
    (folder / records.META).write_text('{"format": "array_record", "dtypes": {}}')  # of a run of before
    write(folder, 1)
    assert len(records.RecordReader(folder)) == 1


def test_a_place_may_be_written_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    meta = {"format": "npz", "dtypes": DTYPES}
    for weights in ("model", str(tmp_path / "model"), "../" + tmp_path.name + "/model"):
        with records.RecordWriter(tmp_path / "r", {**meta, "weights": weights}) as writer:
            writer.write(weights, record(1), {})
    with pytest.raises(Mistake, match="made with weights model, not other"):
        records.RecordWriter(tmp_path / "r", {**meta, "weights": "other"})


def test_two_processes_do_not_write_one_index(tmp_path):
    meta = {"format": "npz", "dtypes": DTYPES}
    with (
        records.RecordWriter(tmp_path, meta),
        records.RecordWriter(tmp_path, meta, worker=1),
        pytest.raises(Mistake, match="is writing it"),
        records.RecordWriter(tmp_path, meta),
    ):
        pass


def test_a_data_set_of_clips_is_named_as_such(tmp_path):
    (tmp_path / "clips.json").write_text("[]")
    with pytest.raises(Mistake, match="is a data set of clips, and no records.*--clips"):
        records.RecordReader(tmp_path)
