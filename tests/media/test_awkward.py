"""Every awkward file is taken or refused as this table says; `docs/inputs.md` gives users the rules behind it."""

import time

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE

ACCEPTED = "accepted"
# file -> accepted, or words of the refusal
PICTURES = {
    "16bit.png": ACCEPTED,
    "cmyk.jpg": ACCEPTED,
    "corrupt.png": "damaged or cut off",
    "exif-rotated-6.jpg": ACCEPTED,
    "grey.png": ACCEPTED,
    "jpeg-named.png": ACCEPTED,
    "palette.png": ACCEPTED,
    "rgba.png": ACCEPTED,
    "text.png": "not a picture",
    "thin-1500x40.png": "crop it to a portrait",
    "tiny-8x8.png": "at least 64 on its short side",
    "truncated.png": "damaged or cut off",
    "zero-byte.png": "empty",
}
SOUNDS = {
    "8khz-digit.wav": ACCEPTED,
    "clipped.wav": ACCEPTED,
    "float32-nan.wav": "100 samples",
    "float32.wav": ACCEPTED,
    "header-only.wav": "no samples",
    "random-bytes.wav": "cannot be opened as sound or video",
    "short-0.2s.wav": ACCEPTED,
    "silent-3s.wav": ACCEPTED,  # a face that does not speak is a video too
    "speech.m4a": ACCEPTED,
    "speech.mp3": ACCEPTED,
    "stereo-44k.wav": ACCEPTED,
    "stereo-left-only.wav": ACCEPTED,
    "text.wav": "cannot be opened as sound or video",
    "truncated.wav": ACCEPTED,  # the 1.2 s that are there
    "zero-byte.wav": "empty",
}
VIDEOS = {  # as sound, where a video may be given, and as video
    "text.mp4": "cannot be opened as sound or video",
    "truncated.mp4": "cannot be opened as sound or video",
}
# How far a picture that was stored another way may lie from portraits/photo-woman-02.png: the mean over all pixels and
# channels of the distance in levels of 0..255. Lossless ones lose nothing but what their format cannot hold.
DISTANCE = {
    "16bit.png": 0,
    "cmyk.jpg": 2,
    "exif-rotated-6.jpg": 2.5,
    "grey.png": 0.5,
    "jpeg-named.png": 3.5,
    "palette.png": 3,
    "rgba.png": 0,
}
SECONDS = {
    "8khz-digit.wav": 0.432,
    "clipped.wav": 3,
    "float32.wav": 3,
    "short-0.2s.wav": 0.2,
    "silent-3s.wav": 3,
    "speech.m4a": 17.407,
    "speech.mp3": 6.008,
    "stereo-44k.wav": 5,
    "stereo-left-only.wav": 5,
    "truncated.wav": 1.199,
}


def verdict(read, path) -> str:
    """Accepted, or the refusal; a refusal names the file, is one line and comes at once."""
    start = time.monotonic()
    try:
        read(path)
    except Mistake as error:
        assert str(error).startswith(f"{path}: ")
        assert "; " in str(error), "a refusal says what to do"
        assert "\n" not in str(error)
        assert time.monotonic() - start < 2
        return str(error)
    return ACCEPTED


def test_the_table_has_every_file(shared):
    files = {path.name for path in (shared / "data" / "awkward").iterdir()}
    assert files == set(PICTURES) | set(SOUNDS) | set(VIDEOS)


@pytest.mark.parametrize("name", PICTURES)
def test_picture(shared, name):
    assert PICTURES[name] in verdict(media.read_picture, shared / "data" / "awkward" / name)


@pytest.mark.parametrize("name", [*SOUNDS, *VIDEOS])
def test_sound(shared, name):
    assert {**SOUNDS, **VIDEOS}[name] in verdict(media.read_sound, shared / "data" / "awkward" / name)


@pytest.mark.parametrize("name", VIDEOS)
def test_video(shared, name):
    assert VIDEOS[name] in verdict(media.probe, shared / "data" / "awkward" / name)


@pytest.mark.parametrize("name", DISTANCE)
def test_a_picture_lies_near_its_original(shared, name):
    with Image.open(shared / "data" / "portraits" / "photo-woman-02.png") as image:
        original = np.asarray(image.convert("L").convert("RGB") if name == "grey.png" else image, np.float32)
    if name == "16bit.png":  # made from every second pixel
        original = original[::2, ::2]
    picture = np.asarray(media.read_picture(shared / "data" / "awkward" / name), np.float32)
    inside = np.ones(original.shape[:2], bool)
    if name == "rgba.png":
        with Image.open(shared / "data" / "awkward" / name) as image:
            inside = np.asarray(image)[..., 3] == 255
        np.testing.assert_array_equal(picture[~inside], 255)
    assert picture.shape == original.shape
    assert np.abs(picture - original)[inside].mean() <= DISTANCE[name]


@pytest.mark.parametrize("name", SECONDS)
def test_a_sound_has_its_length(shared, name):
    samples = media.read_sound(shared / "data" / "awkward" / name)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(SECONDS[name] * SAMPLE_RATE, abs=0.001 * SAMPLE_RATE)


def test_one_channel_heard_through_both(shared):
    left = media.read_sound(shared / "data" / "awkward" / "stereo-left-only.wav")
    assert np.abs(left).max() > 0.01
