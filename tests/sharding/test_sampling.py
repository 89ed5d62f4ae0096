"""A video is the same on any mesh and in both orders; windows and branches need nothing of one another."""

import pytest

CASES = ("rows, plain", "rows, wavefront", "weights cut, plain", "tokens cut, plain", "rows, remembered")


@pytest.mark.parametrize("name", CASES)
def test_a_video_is_that_of_one_device(on_eight, name):
    assert on_eight("sampling")[name]["worst"] < 1e-5


def test_rows_need_no_exchange(on_eight):
    """Within the blocks; before them windows are dealt to the devices, and after them velocities are gathered."""
    found = on_eight("sampling")
    assert found["rows, wavefront"]["moves"] == []
    assert "all-to-all" in found["tokens cut, plain"]["moves"]
    assert found["rows, remembered"]["held"] < 0.3  # the tokens are cut among eight devices, the small rest is not
