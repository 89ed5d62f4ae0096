"""Sounds made here, and read back."""

from fractions import Fraction

import av
import numpy as np
import pytest

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE, frames_of
from tests.media import made

RATE = SAMPLE_RATE


@pytest.mark.parametrize("seconds", [0.1, 1.0])
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (44100, 2), (48000, 1)])
def test_a_sound_is_the_mean_of_its_channels_at_16_khz(tmp_path, seconds, rate, channels):
    hertz = np.array([[300.0], [500.0]])[:channels]
    sound = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    samples = media.read_sound(made.save_wav(tmp_path / "tone.wav", sound, rate))
    expected = (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).mean(0)
    assert samples.dtype == np.float32
    assert len(samples) == len(expected)
    inside = slice(200, -200)  # the resampler's filter reaches past the ends
    np.testing.assert_allclose(samples[inside], expected[inside], atol=1e-3)


def test_sound_of_a_video_begins_with_its_pictures(tmp_path):
    """A sound track that starts 0.5 s after the first picture is heard 0.5 s late, one that starts before is cut."""
    sound = made.voice(2, RATE)
    for name, delay in (("late", 0.5), ("early", -0.5)):
        with av.open(tmp_path / f"{name}.mkv", "w") as file:
            pictures, track = file.add_stream("mpeg4", rate=25), file.add_stream("pcm_s16le", rate=RATE, layout="mono")
            pictures.height, pictures.width, pictures.pix_fmt = 32, 48, "yuv420p"
            for i, pixels in enumerate(made.moving(25)):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = i + 25, Fraction(1, 25)
                file.mux(pictures.encode(frame))
            heard = av.AudioFrame.from_ndarray(np.round(sound * 32767).astype("<i2"), format="s16", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = RATE, round((1 + delay) * RATE), Fraction(1, RATE)
            file.mux([*track.encode(heard), *track.encode(None), *pictures.encode(None)])
        samples = media.read_sound(tmp_path / f"{name}.mkv")
        shift = round(delay * RATE)
        assert len(samples) == len(sound[0]) + shift
        np.testing.assert_allclose(samples[max(shift, 0) :], sound[0, max(-shift, 0) :], atol=1e-3)
        assert not samples[: max(shift, 0)].any()


def coded(path, codec, sound):
    """The bytes of a sound file of one channel, through an encoder."""
    frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
    frame.sample_rate = RATE
    with av.open(path, "w") as file:
        track = file.add_stream(codec, rate=RATE, layout="mono")
        file.mux([*track.encode(frame), *track.encode(None)])
    return path.read_bytes()


def test_a_sound_cut_short_is_taken_as_far_as_it_goes(tmp_path):
    sound = made.voice(3, RATE)
    data = coded(tmp_path / "sound.flac", "flac", sound)
    (tmp_path / "sound.flac").write_bytes(data[: len(data) // 2])
    samples = media.read_sound(tmp_path / "sound.flac")
    assert RATE < len(samples) < 2 * RATE
    np.testing.assert_allclose(samples, sound[0, : len(samples)], atol=1e-3)


def test_a_missing_piece_of_sound_is_silent_and_what_follows_in_time(tmp_path):
    sound = made.voice(3, RATE)
    data = coded(tmp_path / "sound.flac", "flac", sound)
    third = len(data) // 3
    (tmp_path / "sound.flac").write_bytes(data[:third] + bytes(third) + data[2 * third :])
    samples = media.read_sound(tmp_path / "sound.flac")
    assert len(samples) == len(sound[0])
    for kept in (slice(0, RATE // 2), slice(-RATE // 2, None)):
        np.testing.assert_allclose(samples[kept], sound[0, kept], atol=1e-3)
    assert not samples[int(1.4 * RATE) : int(1.6 * RATE)].any()


def test_a_damaged_sound_is_refused(tmp_path):
    data = coded(tmp_path / "sound.mp3", "libmp3lame", made.voice(3, RATE))
    third = len(data) // 3
    (tmp_path / "sound.mp3").write_bytes(data[:third] + bytes(600) + data[third + 600 :])
    with pytest.raises(Mistake, match="damaged .* s from its start"):
        media.read_sound(tmp_path / "sound.mp3")


def test_sounds_refused(tmp_path):
    made.save_wav(tmp_path / "empty.wav", np.zeros((1, 0)), RATE)
    with media.VideoWriter(tmp_path / "mute.mp4", fps=25, height=32, width=48) as video:
        video.write(made.moving(3))
    for path, words in (
        (tmp_path / "none.wav", "no such file"),
        (tmp_path / "empty.wav", "no samples"),
        (tmp_path / "mute.mp4", "has no sound"),
    ):
        with pytest.raises(Mistake, match=words) as refusal:
            media.read_sound(path)
        assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("seconds", "frames"), [(0.01, 1), (0.1, 3), (0.2, 5), (3.2, 80), (3.24, 81), (3.25, 82), (3.28, 82), (61, 1525)]
)
def test_frames_cover_the_sound(seconds, frames):
    assert frames_of(round(seconds * RATE), RATE, 25) == frames
    assert frames_of(round(seconds * RATE), RATE, 25.0) == frames


@pytest.mark.parametrize(("fps", "length"), [(24, 54000), (25, 51840), (30, 43200), (29.97, 43243)])
def test_a_window_hears_its_frames(fps, length):
    sound = made.voice(9, RATE)[0] + 0.3
    for start in (0, 44, 176):
        heard = media.window_sound(sound, start, 81, fps)
        first = round(start * RATE / fps)
        real = sound[first : first + length]
        assert heard.shape == (length,)
        np.testing.assert_array_equal(heard[: len(real)], media.normalise(real))
        np.testing.assert_array_equal(heard[len(real) :], 0)
        assert heard[: len(real)].mean() == pytest.approx(0, abs=1e-4)
        assert heard[: len(real)].std() == pytest.approx(1, abs=1e-3)
    assert not media.window_sound(sound, 1000, 81, fps).any()


def test_silence_stays_silence():
    assert not media.window_sound(np.zeros(1600, np.float32), 0, 81, 25).any()
