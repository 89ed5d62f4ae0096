"""Windows of clips, and masks at latent size."""

import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.data.clips.layouts import read_clip
from stableavatar_jax.data.config import ClipWindow
from stableavatar_jax.data.sources import windows
from stableavatar_jax.diffusion import masks
from stableavatar_jax.encoding.windows import window_arrays
from stableavatar_jax.errors import Mistake
from tests.data import made


def test_a_clip_takes_the_nearest_size():
    size_of = ClipWindow().size_of
    assert (size_of(1080, 1920), size_of(1920, 1080), size_of(288, 360)) == ((480, 832), (832, 480), (512, 512))


@pytest.mark.parametrize("wrong", [{"frames": 80}, {"stride": 0}, {"sizes": ()}, {"sizes": ((100, 512),)}])
def test_impossible_windows(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ClipWindow(**wrong)


def test_windows_are_spread_over_the_clip():
    config = ClipWindow(frames=81)
    assert windows.window_starts(200, config, 3) == [0, 59, 119]
    assert windows.window_starts(82, config, 5) == [0, 1]
    assert windows.window_starts(80, config, 5) == []
    drawn = [windows.window_starts(181, config, 3, np.random.default_rng(seed)) for seed in range(40)]
    assert all(starts == sorted(set(starts)) and len(starts) == 3 for starts in drawn)
    assert min(map(min, drawn)) < 5 and 95 < max(map(max, drawn)) <= 100
    assert windows.window_starts(82, config, 5, np.random.default_rng(0)) == [0, 1]
    assert windows.window_starts(80, config, 5, np.random.default_rng(0)) == []
    with pytest.raises(Mistake, match="c: 80 frames, a window needs 81"):
        windows.check_window("c", 80, config)


def test_sounds_of_one_frame_rate_have_one_length():
    config = ClipWindow(frames=81)
    for start in range(50):
        first, last = windows.sound_range(start, 81, 25.0)
        sound = windows.even_length(np.ones(last - first, np.float32), config.samples(25.0))
        assert len(sound) == 51840 and sound[:-1].all()


@pytest.mark.parametrize("fit", ["cover", "stretch"])
def test_masks_stay_on_the_picture(tmp_path, fit):
    """In a frame of other proportions the mask still lies where the square is."""
    clip = read_clip(made.folder_clip(tmp_path / "1"), "c", "talking")
    window = windows.read_window(clip, 2, frames=5, height=64, width=32, fit=fit)
    square = window.pixels[..., 0] > 0.14  # between the square and what is behind it
    overlap = (square & (window.face_mask > 0.5)).sum() / (square | (window.face_mask > 0.5)).sum()
    assert overlap > 0.9


def test_arrays_of_a_window(tmp_path):
    clip = read_clip(made.folder_clip(tmp_path / "1"), "c", "talking")
    config = ClipWindow(frames=5, sizes=((32, 48),), fit="stretch")
    window = windows.read_window(clip, 3, frames=5, height=32, width=48, fit="stretch")
    arrays = window_arrays(window, config)
    assert {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} == {
        "pixels": ((5, 32, 48, 3), "uint8"),
        "reference": ((32, 48, 3), "uint8"),
        "face_mask": ((2, 4, 6), "float32"),
        "lip_mask": ((2, 4, 6), "float32"),
        "sound": ((3200,), "float32"),
        "prompt": ((), "int32"),
    }
    np.testing.assert_array_equal(arrays["pixels"] / np.float32(127.5) - 1, window.pixels)
    np.testing.assert_array_equal(arrays["reference"], arrays["pixels"][0])


def test_another_frame_as_reference(tmp_path):
    clip = read_clip(made.folder_clip(tmp_path / "1"), "c", "talking")
    options = {"frames": 5, "height": 32, "width": 48}
    window = windows.read_window(clip, 3, reference=1, **options)
    np.testing.assert_array_equal(window.reference, windows.read_window(clip, 1, **options).pixels[0])
    assert np.abs(window.reference - window.pixels[0]).max() > 0.1


def test_a_window_without_sound_is_no_silence(tmp_path):
    folder = made.folder_clip(tmp_path / "1")
    made.video(folder / "sub_clip.mp4", 12)  # says 25 frames a second, so the sound is too short
    made.sound(folder / "audio.wav", 0.2)
    config = ClipWindow(frames=5, sizes=((32, 48),))
    window = windows.read_window(read_clip(folder, "c", "talking"), 6, frames=5, height=32, width=48)
    with pytest.raises(Mistake, match="c: 0 sound samples for the 3200 of the window at frame 6"):
        window_arrays(window, config)


def test_only_the_first_frame_is_given():
    """Then the mask is known without any resizing, which is how the training step makes it."""
    hidden = jnp.ones((1, 17, 16, 16)).at[:, 0].set(0)
    np.testing.assert_array_equal(masks.given_mask(hidden, (2, 2))[0], masks.first_frame_given((5, 2, 2)))
