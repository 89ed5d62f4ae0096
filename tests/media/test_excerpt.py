"""One track of several, and a part of a recording in place of all of it."""

import av
import librosa
import numpy as np
import pytest
from av.stream import Disposition

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE as RATE
from tests.media import made


def heard(path, **excerpt):
    return np.concatenate(list(media.SoundFile(path, excerpt=media.Excerpt(**excerpt)).blocks()))


@pytest.fixture
def tracks(tmp_path):
    """A file with three voices, one after another as tracks, of which the second is the default."""
    voices = [made.voice(0.5, RATE, seed=seed) for seed in range(3)]
    with av.open(tmp_path / "film.mka", "w") as file:
        streams = [file.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in voices]
        for number, (stream, language) in enumerate(zip(streams, ("eng", "deu", "fra"), strict=True)):
            stream.metadata["language"] = language
            stream.disposition = Disposition.default if number == 1 else Disposition(0)
        for stream, voice in zip(streams, voices, strict=True):
            frame = av.AudioFrame.from_ndarray(np.round(voice * 32767).astype("<i2"), format="s16", layout="mono")
            frame.sample_rate = RATE
            file.mux([*stream.encode(frame), *stream.encode(None)])
    return tmp_path / "film.mka", [voice[0] for voice in voices]


def test_the_default_track_is_taken_unless_another_is_wanted(tracks, caplog):
    path, voices = tracks
    np.testing.assert_allclose(heard(path), voices[1], atol=1e-4)
    assert "film.mka: it has 3 sound tracks, number 2 is used" in caplog.text
    caplog.clear()
    for number, voice in enumerate(voices, 1):
        np.testing.assert_allclose(heard(path, track=number), voice, atol=1e-4)
    assert not caplog.records


def test_a_track_that_is_not_there_names_those_that_are(tracks):
    with pytest.raises(Mistake) as error:
        heard(tracks[0], track=4)
    named = enumerate(("eng", "deu", "fra"), 1)
    listed = ", ".join(f"{number} ({name}, pcm_s16le, 1 channel)" for number, name in named)
    assert str(error.value).endswith(f"film.mka: sound track 4 is not there; the file has {listed}")


@pytest.mark.parametrize(("start", "duration"), [(0.0, 0.5), (0.31, None), (0.31, 0.4), (1.9, 5.0)])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_an_excerpt_is_the_sound_cut_before_it_is_resampled(tmp_path, rate, start, duration):
    voice = made.voice(2, rate, 2)
    path = made.save_wav(tmp_path / "talk.wav", voice, rate)
    last = None if duration is None else round(start * rate) + round(duration * rate)
    kept = (np.round(voice * 32767) / 32768).astype(np.float32)[:, round(start * rate) : last]
    expected = librosa.resample(kept.mean(0), orig_sr=rate, target_sr=RATE, res_type="soxr_hq")
    np.testing.assert_allclose(heard(path, start=start, duration=duration), expected, atol=1e-6)
    recording = media.SoundFile(path, excerpt=media.Excerpt(start=start, duration=duration))
    assert recording.samples == len(expected)
    with recording.open() as sound:  # what the video gets keeps its rate and channels
        assert (sound.rate, sound.channels) == (rate, 2)
        np.testing.assert_array_equal(np.concatenate(list(sound.blocks), axis=1), kept)


@pytest.mark.parametrize("start", [2.0, 7.5])
def test_nothing_is_left_after_the_end(tmp_path, start):
    path = made.save_wav(tmp_path / "talk.wav", made.voice(2, RATE), RATE)
    with pytest.raises(Mistake, match=rf"its sound is 2.00 s long, and nothing is left of it from {start:g} s on"):
        heard(path, start=start)
