"""Every layout of attention equals the plain one, and so do its gradients; and it moves what it says."""

import pytest

from tests.sharding.layouts import LAYOUTS, LENGTHS, MORE

EVERY = [f"{layout}, {name}" for name in LENGTHS for layout in LAYOUTS]
SOME = [*(f"ulysses x ring, {name}" for name in MORE), "all axes, queries alone"]


@pytest.mark.parametrize("name", EVERY + SOME)
def test_a_layout_equals_plain_attention(on_eight, name):
    found = on_eight("layouts")[name]
    assert found["worst"] < 1e-5
    layout = name.split(",")[0]
    exchanged, passed = "ulysses" in layout or name.startswith("all axes, e"), "ring" in layout
    assert exchanged <= ("all-to-all" in found["moves"])
    assert passed == ("collective-permute" in found["moves"]) or "odd" in name  # XLA pads odd lengths by permuting too
    if layout == "local":
        assert not found["moves"]
