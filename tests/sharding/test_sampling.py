"""A video is the same on any mesh and in both orders; windows and branches need nothing of one another."""

import pytest

from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.sampling.decode import pieces
from stableavatar_jax.sharding import make_mesh
from tests.virtual import FakeDevice

CASES = ("rows, plain", "rows, wavefront", "weights cut, plain", "tokens cut, plain", "rows, remembered")


@pytest.mark.parametrize("name", CASES)
def test_a_video_is_that_of_one_device(on_eight, name):
    assert on_eight("sampling")[name]["worst"] < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_each_program_of_an_order_is_compiled_once(on_eight, name):
    assert set(on_eight("sampling")[name]["versions"]) == {1}


def test_rows_need_no_exchange(on_eight):
    """Within the blocks; before them windows are dealt to the devices, and after them velocities are gathered."""
    found = on_eight("sampling")
    for order in ("plain", "wavefront"):
        assert found[f"rows, {order}"]["blocks"] > 100 and found[f"rows, {order}"]["moves"] == []
    assert "all-to-all" in found["tokens cut, plain"]["moves"]
    assert found["rows, remembered"]["held"] == 1 / 8


@pytest.mark.parametrize("conv", ["taps", "direct"])
def test_every_device_decodes_its_piece_of_a_picture(on_eight, conv):
    """And keeps the frames before it of that piece alone. Frames are those of one device, to the rounding of a few."""
    found = on_eight("sampling")[f"decoder, {conv}"]
    assert len(found["cut"]) > 10 and all(sides == [1, 1, 4, 2, 1] for sides in found["cut"])
    assert found["levels"] <= 1 and found["other"] < 1e-3


@pytest.mark.parametrize(
    ("devices", "size", "sides"),
    [(8, (60, 104), (1, 4, 2)), (64, (60, 104), (2, 4, 8)), (3, (64, 64), None), (8, (8, 4), (4, 2, 1))],
)
def test_pictures_are_cut_into_equal_pieces(devices, size, sides):
    place = pieces(make_mesh(MeshConfig(), [FakeDevice(i) for i in range(devices)]), *size)
    assert (tuple(place.mesh.shape.values()) if place else None) == sides
    assert pieces(None, *size) is None
