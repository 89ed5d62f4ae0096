"""Recordings that are read as they are needed: from memory, from files, and live."""

import io
import os
import threading

import librosa
import numpy as np
import pytest

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE
from tests.disk import small_disk
from tests.media import made

RATE = SAMPLE_RATE


def heard(recording):
    return np.concatenate(list(recording.blocks()))


def raw(sound):
    return np.round(sound[0] * 32767).astype("<i2").tobytes()


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("samples", [1, 700, 44107])
def test_a_file_gives_sample_for_sample_what_resampling_the_whole_gives(tmp_path, rate, samples):
    path = made.save_wav(tmp_path / "talk.wav", made.voice(1, 44107, 2)[:, :samples], rate)
    recording = media.SoundFile(path)
    with media.open_sound(path) as sound:
        mixed = np.concatenate(list(sound.blocks), axis=1).mean(0)
    whole = librosa.resample(mixed, orig_sr=rate, target_sr=RATE, res_type="soxr_hq")
    np.testing.assert_array_equal(heard(recording), whole)
    np.testing.assert_array_equal(heard(recording), media.read_sound(path))  # as often as needed
    assert recording.samples == len(whole)


def test_every_recording_of_one_sound_is_the_same(tmp_path):
    sound = made.voice(2.5, RATE)
    path = made.save_wav(tmp_path / "talk.wav", sound, RATE)
    live = media.LiveSound(io.BytesIO(raw(sound)), None)
    assert live.samples is None
    for recording in (media.SoundFile(path), media.SoundFile(path, path.read_bytes()), live,
                      media.Samples(media.read_sound(path))):  # fmt: skip
        np.testing.assert_array_equal(heard(recording), media.read_sound(path))
        assert recording.samples == 2.5 * RATE
    with pytest.raises(ValueError, match="can be read once"):
        heard(live)


def test_a_file_is_told_of_once_and_refused_when_it_is_opened(tmp_path, caplog):
    sound = made.voice(1, RATE)
    recording = media.SoundFile(made.save_wav(tmp_path / "against.wav", np.concatenate([sound, -sound]), RATE))
    assert len(caplog.records) == 1 and "cancel out" in caplog.text
    heard(recording)
    assert len(caplog.records) == 1
    for content, words in ((np.zeros((1, 0)), "no samples"), (None, "no such file")):
        if content is not None:
            made.save_wav(tmp_path / "bad.wav", content, RATE)
        with pytest.raises(Mistake, match=words):
            media.SoundFile(tmp_path / "bad.wav")
        (tmp_path / "bad.wav").unlink(missing_ok=True)


@pytest.mark.parametrize("seconds", [1, 3])
def test_a_file_that_changes_is_refused(tmp_path, seconds):
    recording = media.SoundFile(made.save_wav(tmp_path / "talk.wav", made.voice(2, RATE), RATE))
    made.save_wav(tmp_path / "talk.wav", made.voice(seconds, RATE), RATE)
    with pytest.raises(Mistake, match="was changed"):
        heard(recording)


@pytest.mark.parametrize("hour", [media.Samples, media.SoundFile])
def test_blocks_are_bounded(tmp_path, hour):
    sound = made.voice(100, RATE)
    path = made.save_wav(tmp_path / "talk.wav", sound, RATE)
    assert max(map(len, (hour(path) if hour is media.SoundFile else hour(sound[0])).blocks())) <= RATE


class Pieces(io.RawIOBase):
    """A stream that gives a byte, three bytes, and so on: no read is a whole number of samples."""

    def __init__(self, data, sizes=(1, 3, 5, 4001)):
        self.data, self.sizes, self.reads = data, sizes, 0

    def read(self, most=-1):
        size = min(most, self.sizes[self.reads % len(self.sizes)])
        self.reads += 1
        given, self.data = self.data[:size], self.data[size:]
        return given


def test_live_sound_in_pieces_of_any_size(tmp_path):
    data = raw(made.voice(1, RATE))
    recording = media.LiveSound(Pieces(data), tmp_path / "sound.raw")
    first, again = heard(recording), heard(recording)
    np.testing.assert_array_equal(first, np.frombuffer(data, "<i2") / np.float32(32768))
    np.testing.assert_array_equal(again, first)
    assert recording.samples == RATE
    assert (tmp_path / "sound.raw").read_bytes() == data


def test_live_sound_is_given_as_soon_as_it_is_there():
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stream:
        blocks = media.LiveSound(stream, None).blocks()
        for size in (10, 400):
            os.write(write, b"\1\0" * size)
            assert len(next(blocks)) == size  # while the stream is open
        threading.Timer(0.05, os.close, [write]).start()
        assert next(blocks, None) is None


def test_live_sound_goes_on_after_a_restart(tmp_path):
    data, keep = raw(made.voice(1.5, RATE)), tmp_path / "sound.raw"
    first = media.LiveSound(Pieces(data[:20_001]), keep).blocks()
    for _ in range(9):
        next(first)
    kept = (tmp_path / ".sound.raw.part").read_bytes()
    assert 0 < len(kept) < 20_000 and data.startswith(kept) and not keep.exists()
    (tmp_path / ".sound.raw.part").write_bytes(kept + b"\0")  # a write that was interrupted

    second = media.LiveSound(Pieces(data[len(kept) :]), keep)
    assert second.samples is None
    whole = np.frombuffer(data, "<i2") / np.float32(32768)
    np.testing.assert_array_equal(heard(second), whole)
    third = media.LiveSound(Pieces(b"more, that is not read"), keep)
    assert third.samples == len(whole)
    np.testing.assert_array_equal(heard(third), whole)


@pytest.mark.parametrize("kept", [0, 2, 4000, 32_000, 40_000, 48_000])
@pytest.mark.parametrize("sizes", [(1, 3, 5, 4001), (32_000,)])
def test_a_stream_that_is_repeated_is_read_once(tmp_path, kept, sizes):
    """The same command with the same file goes on where the run that was killed had got to."""
    data, keep = raw(made.voice(1.5, RATE)), tmp_path / "sound.raw"
    (tmp_path / ".sound.raw.part").write_bytes(data[:kept])
    found = heard(media.LiveSound(Pieces(data, sizes), keep))
    np.testing.assert_array_equal(found, np.frombuffer(data, "<i2") / np.float32(32768))
    assert keep.read_bytes() == data


@pytest.mark.parametrize("same", [0, 2, 4000, 33_000])
def test_a_stream_that_only_begins_as_the_one_before_is_new(tmp_path, same):
    """Two takes of a microphone that was silent at first."""
    first, keep = bytes(same) + raw(made.voice(1, RATE)), tmp_path / "sound.raw"
    second = bytes(same) + raw(made.voice(1, RATE, seed=1))
    (tmp_path / ".sound.raw.part").write_bytes(first)
    heard(media.LiveSound(Pieces(second, (1, 3, 5, 4001)), keep))
    assert keep.read_bytes() == first + second


def test_live_sounds_that_are_none(tmp_path, caplog):
    wav = made.save_wav(tmp_path / "talk.wav", made.voice(1, RATE), RATE).read_bytes()
    keep = tmp_path / "sound.raw"
    for data, words in ((b"", "before its first sample"), (b"\0", "before its first sample"), (wav, "header"),
                        (b"\0\0\0\x20ftypisom", "header"), (b"fLaC" + bytes(50), "header")):  # fmt: skip
        with pytest.raises(Mistake, match=words):
            heard(media.LiveSound(io.BytesIO(data), keep))
        assert [path.name for path in tmp_path.iterdir()] == ["talk.wav"]
    assert len(heard(media.LiveSound(io.BytesIO(b"\1\0\2\0\3"), keep))) == 2
    assert "middle of a sample" in caplog.text
    assert keep.read_bytes() == b"\1\0\2\0"


def test_a_live_sound_that_cannot_be_kept(tmp_path):
    data = raw(made.voice(1, RATE))
    with small_disk(), pytest.raises(Mistake, match="sound.raw: cannot be written.*make room"):
        heard(media.LiveSound(io.BytesIO(data), tmp_path / "sound.raw"))
    again = media.LiveSound(io.BytesIO(data), tmp_path / "sound.raw")  # with what was kept, and room
    np.testing.assert_array_equal(heard(again), np.frombuffer(data, "<i2") / np.float32(32768))
