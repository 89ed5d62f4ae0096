"""Windows of speech with their labels: what the audio encoder is trained on."""

import dataclasses
import json

import numpy as np
import pytest

from stableavatar_jax.data.clips.clip import Clip
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.sources import sounds
from stableavatar_jax.data.sources.speech import Speech, SpeechConfig, SpeechSource, first_letter, read_speech
from stableavatar_jax.errors import Mistake
from tests.data import made

FRAMES = 40


def clip(folder, name="a", **labels) -> Clip:
    """A clip of a tone whose mouth opens steadily, with one phoneme in its second half."""
    made.sound(folder / f"{name}.wav", FRAMES / 25)
    labels = {
        "opening": np.linspace(0, 1, FRAMES).tolist(), "width": [0.5] * FRAMES, "phonemes": [["ˈaː", 0.8, 1.2]]
    } | labels  # fmt: skip
    return Clip(
        id=name, kind="talking", fps=25.0, frames=FRAMES, height=8, width=8, sound_rate=16000,
        sound=(folder / f"{name}.wav").read_bytes(), labels=json.dumps(labels),
    )  # fmt: skip


def times(samples: int) -> np.ndarray:
    return np.arange(0.0, samples / 16000, 0.02)


CALM = SpeechConfig(frames=13, speed=(1.0, 1.0), disturbed=0.0, ending=0.0)


def test_labels_go_with_the_sound(tmp_path):
    """Played at another speed, the mouth of a moment is that of what is heard then."""
    speech = read_speech(clip(tmp_path))
    np.testing.assert_allclose(speech.mouth_at(np.array([0.02, 0.82]))[:, 0], [0, 20 / 39], atol=1e-6)
    assert speech.letters_at(np.array([0.1, 0.79, 0.81, 1.19, 1.21])) == ["", "", "a", "a", ""]
    loud = np.zeros(25600, np.int16)
    loud[12800:] = np.random.default_rng(0).integers(-9000, 9000, 12800)  # from 0.8 s on, where the mouth is half open
    half = Speech("half", 25.0, loud, speech.mouth, speech.spoken)
    faster = dataclasses.replace(CALM, speed=(1.25, 1.25))
    source = SpeechSource([clip(tmp_path)], faster, times)
    source.speech = [half]
    for seed in range(20):
        item = source.read(0, np.random.default_rng(seed))
        moments = times(len(item["sound"])) * 16000
        heard = [np.abs(np.diff(item["sound"][int(at) : int(at) + 300])).mean() > 0.05 for at in moments[:-1]]
        opened = item["mouth"][:-1, 0] > 19.5 / 39
        assert (heard == opened).mean() > 0.95, seed
        assert set(np.unique(item["phoneme"])) <= {0, 1}


def test_a_window_is_heard_as_in_sampling(tmp_path):
    item = SpeechSource([clip(tmp_path)], CALM, times).read(0, np.random.default_rng(0))
    assert item["sound"].shape == (8320,) and item["mouth"].shape == (26, 2) and item["phoneme"].dtype == np.int32
    np.testing.assert_allclose([item["sound"].mean(), item["sound"].std()], [0, 1], atol=1e-5)
    np.testing.assert_array_equal(item["sound"], item["clean"])
    again = SpeechSource([clip(tmp_path)], SpeechConfig(frames=13), times)
    first, second = (again.read(0, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_equal(first, second)


def test_after_the_end_of_a_sound_nobody_speaks(tmp_path):
    config = SpeechConfig(frames=13, speed=(1.0, 1.0), disturbed=1.0, ending=1.0)
    item = SpeechSource([clip(tmp_path)], config, times).read(0, np.random.default_rng(1))
    silent = np.flatnonzero(item["sound"])[-1] + 1
    assert 2000 < silent < 8320 and not item["clean"][silent:].any()
    over = times(8320) * 16000 >= silent
    assert (item["mouth"][over] == [0, 0.5]).all() and not item["phoneme"][over].any()


@pytest.mark.parametrize("effect", [
    sounds.equalise, sounds.narrow, sounds.reverberate, sounds.drift, sounds.add_noise, sounds.disturb,
])  # fmt: skip
def test_effects_keep_the_timing(effect):
    """What is heard after any effect goes with the sound before it; silence stays finite."""
    rng = np.random.default_rng(3)
    sound = (rng.standard_normal(16000) * (np.arange(16000) % 4000 < 2000)).astype(np.float32)
    out = effect(sound, rng)
    assert out.shape == sound.shape and out.dtype == np.float32 and np.isfinite(out).all()
    loudness = [np.square(x).reshape(-1, 200).mean(1) for x in (sound, out)]
    assert np.corrcoef(*loudness)[0, 1] > 0.6
    assert np.isfinite(effect(np.zeros(16000, np.float32), rng)).all()


def test_clips_that_say_too_little(tmp_path):
    unlabelled = clip(tmp_path)
    object.__setattr__(unlabelled, "labels", "")
    with pytest.raises(Mistake, match="a: its labels need opening and width"):
        SpeechSource([unlabelled], CALM, times)
    with pytest.raises(Mistake, match="3 openings for 40 frames"):
        SpeechSource([clip(tmp_path, opening=[0.0] * 3, width=[0.0] * 3)], CALM, times)
    with pytest.raises(Mistake, match="25600 samples, a window needs 28800"):
        SpeechSource([clip(tmp_path)], SpeechConfig(frames=45, speed=(1.0, 1.0)), times)
    assert not SpeechSource([unlabelled], CALM, times, Tally("skip")).speech
    assert [first_letter(s) for s in ("ˈaː", "tʃ", "ʲ", "ɐ̃")] == ["a", "t", "ʲ", "ɐ"]
