"""The loss and every gradient are the same on one device and on every preset; what is cut, and what moves."""

import pytest

from tests.sharding.steps import MESHES, SHAPE

MOVED = {
    "rows": {"all-reduce"}, "fsdp": {"all-gather"}, "slices": {"all-gather", "all-reduce"},
    "context": {"all-gather", "all-to-all", "collective-permute"}, "tensor": {"all-gather", "all-reduce"},
}  # fmt: skip
SHARDS = {  # of the feed-forward's first kernel, [layers, 96, 64]
    "rows": [2, 96, 64], "fsdp": [2, 12, 64], "slices": [2, 24, 64], "context": [2, 12, 64], "tensor": [2, 24, 32],
}  # fmt: skip
NAMES = [name for name in MESHES if name != "one"]


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_are_those_of_one_device(on_eight, name):
    found = on_eight("steps")[name]
    assert found["worst"] < 1e-5, found


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_cut_and_moved_as_the_mesh_says(on_eight, name):
    found = on_eight("steps")[name]
    assert found["shard"] == SHARDS[name]
    rows = 8 // {"context": 1, "tensor": 4}.get(name, 8)
    data = rows * 4 * (SHAPE[0] * SHAPE[1] * SHAPE[2] * (7 * 16 + 2))  # latents, draws and masks of a device's rows
    assert found["weights"] + data < found["argument"] < found["weights"] + 1.1 * data
    assert set(found["moves"]) >= MOVED[name]
    if name == "rows":
        assert found["moves"] == ["all-reduce"]  # gradients, and nothing of the rows


def test_rows_on_devices_of_their_own_move_nothing(on_eight):
    assert on_eight("steps")["forward"]["rows"] == []
    assert "all-to-all" in on_eight("steps")["forward"]["context"]


def test_more_chips_with_rows_of_their_own_send_no_more_each(on_eight):
    """The gradients of all weights once, however many chips there are."""
    found = on_eight("steps")
    two, eight = found["sent by one of two"], found["rows"]["sent"]
    assert max(two, eight) < 1.01 * min(two, eight)
    assert found["rows"]["weights"] <= eight < 1.02 * found["rows"]["weights"]
