"""Crops of clips: what the video autoencoder is trained on."""

import numpy as np
import pytest

from stableavatar_jax.data.clips.dataset import BuildConfig, ClipDataset, build
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.iterator import open_batches
from stableavatar_jax.data.sources.crops import CropConfig, CropSource, crop_corner
from stableavatar_jax.errors import Mistake
from tests.data import made


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two clips of pictures, each with a square whose lower half are the lips."""
    folder = tmp_path_factory.mktemp("crops")
    made.folder_clip(folder / "raw" / "speech-1", 7)
    made.folder_clip(folder / "raw" / "speech-2", 5)
    build(BuildConfig(source=folder / "raw", output=folder / "clips"))
    return ClipDataset(folder / "clips")


def test_a_crop_is_a_piece_of_its_clip(clips):
    """Whatever is kept in memory, the same crops come out."""
    kept, again = (CropSource(clips, CropConfig(frames=5, size=24, cache=gb)) for gb in (1.0, 0.0))
    whole = np.stack([np.asarray(picture) for picture in clips[0].pictures(range(7))])
    for seed in range(8):
        crop, other = (source.read(0, np.random.default_rng(seed)) for source in (kept, again))
        for name, array in crop.items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)
        assert crop["video"].shape == (5, 24, 24, 3) and crop["video"].dtype == np.uint8
        places = np.lib.stride_tricks.sliding_window_view(whole, (5, 24, 24, 3)).reshape(-1, 5, 24, 24, 3)
        assert (places == crop["video"]).all((1, 2, 3, 4)).any()
        bright = crop["video"][..., 0] == 200
        np.testing.assert_array_equal(crop["face_mask"], bright)
        assert not (crop["lip_mask"] & ~crop["face_mask"]).any()


def test_crops_are_about_the_lips_when_asked():
    marked = np.zeros((40, 60), bool)
    marked[30:34, 10:20] = True
    draw = np.random.default_rng(0)
    corners = np.array([crop_corner(marked, 16, draw) for _ in range(200)])
    assert (np.abs(corners + 8 - [31.5, 14.5]) <= 4.5).mean() > 0.9 and np.ptp(corners, 0).min() > 2
    anywhere = np.array([crop_corner(np.zeros((40, 60), bool), 16, draw) for _ in range(2000)])
    assert anywhere.min() == 0 and anywhere.max(0).tolist() == [24, 44]


def test_batches_go_on_where_they_stopped(clips):
    source = CropSource(clips, CropConfig(size=16))
    whole, half = (open_batches(source, batch=4, seed=3) for _ in range(2))
    batches = [next(whole) for _ in range(4)]
    half.set_state({**whole.get_state(), "step": 2})
    np.testing.assert_equal(next(half), batches[2])
    assert batches[0]["video"].shape == (4, 1, 16, 16, 3)
    whole.close(), half.close()


def test_clips_that_are_too_small(clips):
    with pytest.raises(Mistake, match="speech-1: 7 frames of 48x64, a crop needs 9 of 16x16"):
        CropSource(clips, CropConfig(frames=9, size=16))
    source = CropSource(clips, CropConfig(frames=5, size=48))
    assert source.numbers == [0, 1]
    assert not CropSource(clips, CropConfig(size=56), Tally("skip")).numbers
    for wrong, told in ({"frames": 4}, "4n"), ({"size": 20}, "multiple of 8"), ({"on_lips": 2.0}, "share"):
        with pytest.raises(ValueError, match=told):
            CropConfig(**wrong)
