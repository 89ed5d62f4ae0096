"""What is said, by whom, and when; and the mouth that belongs to it."""

import sys
import time

import numpy as np
import pytest

from stableavatar_jax.errors import Mistake
from stableavatar_jax.world import voices
from stableavatar_jax.world.mouth import Phoneme, closures, from_phonemes
from stableavatar_jax.world.recording import draw_recording
from stableavatar_jax.world.speech import say

SENTENCE = "My brother puts the happy boat on the pond."


def spoken(*symbols: str, each: float = 0.12, start: float = 0.2) -> list[Phoneme]:
    """Phonemes one after another."""
    return [Phoneme(symbol, start + i * each, start + (i + 1) * each) for i, symbol in enumerate(symbols)]


def test_speech_depends_on_nothing_said_before():
    first = say(SENTENCE, "en-us+croak", pitch=30)
    say("Guten Tag.", "de+f2", speed=210)
    again = say(SENTENCE, "en-us+croak", pitch=30)
    np.testing.assert_array_equal(first.samples, again.samples)
    assert first.phonemes == again.phonemes
    other = say(SENTENCE, "en-us+croak", pitch=60)
    assert len(other.samples) != len(first.samples) or (other.samples != first.samples).any()


def test_speech_does_not_depend_on_the_time():
    """espeak-ng seeds the noise of breathy voices with the second in which it is started."""
    first = say("Hello.", "en+f5")
    time.sleep(1.1)
    np.testing.assert_array_equal(first.samples, say("Hello.", "en+f5").samples)


def test_phonemes_lie_where_they_are_heard():
    speech = say(SENTENCE, "en-us+m3")
    times = [time for phoneme in speech.phonemes for time in (phoneme.start, phoneme.end)]
    assert times == sorted(times) and times[0] == 0 and abs(times[-1] - speech.seconds) < 1e-3
    assert [p.symbol.strip("ˈˌ") for p in speech.phonemes][:3] == ["m", "aɪ", "b"]
    heard = {}
    for phoneme in speech.phonemes:
        part = speech.samples[round(phoneme.start * speech.rate) : round(phoneme.end * speech.rate)]
        heard.setdefault(phoneme.symbol.strip("ˈˌ"), []).append(part)
    assert all(np.abs(part[: len(part) // 4]).max() < 1e-3 for part in heard["p"]), "a p begins with its silent closure"
    assert all(np.abs(part).max() > 0.1 for part in heard["æ"])


def test_what_cannot_be_said(monkeypatch):
    with pytest.raises(Mistake, match="no voice 'nonsense'"):
        say(SENTENCE, "nonsense")
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(Mistake, match=r"pip install -e '\.\[demo\]'"):
        say(SENTENCE, "en")


def test_the_splits_share_no_voice_and_no_sentence():
    rng = np.random.default_rng(0)
    drawn = {split: {voices.draw_voice(rng, split).name for _ in range(300)} for split in ("train", "test")}
    assert not drawn["train"] & drawn["test"] and min(map(len, drawn.values())) > 80
    assert len(voices.languages("train")) >= 12 and set(voices.languages("train")) < set(voices.languages("test"))
    for language in voices.languages("test"):
        train, test = (voices.sentences(language, split) for split in ("train", "test"))
        assert not set(train) & set(test) and len(train) >= 12 and len(test) >= 3


@pytest.mark.parametrize("language", voices.languages("test"))
def test_every_language_can_be_spoken_and_its_sounds_are_known(language):
    speech = say(voices.sentences(language, "test")[1], language)
    assert 0.8 < speech.seconds < 6
    mouth = from_phonemes(speech.phonemes, round(speech.seconds * 25))
    assert mouth.opening.max() > 0.4 > 0.1 > mouth.opening.min()


def test_lips_that_meet_are_seen():
    """At any place between frames, also where the closure is shorter than a frame."""
    for symbols in (("a", "p", "a"), ("a", "b", "a"), ("ɑː", "m", "ˈɑː")):
        for each in (0.03, 0.05, 0.12):
            for start in np.linspace(0.2, 0.24, 9):
                phonemes = spoken(*symbols, each=each, start=float(start))
                opening = from_phonemes(phonemes, 25).opening
                (begin, end), = closures(phonemes)
                middle = (begin + end) / 2
                assert opening[round((middle - 0.02) * 25 - 0.5) : round((middle + 0.02) * 25 + 0.5) + 1].min() < 0.05
                assert each < 0.12 or opening.max() > 0.5


def test_vowels_have_their_shapes():
    mouths = {vowel: from_phonemes(spoken(vowel, vowel, vowel), 25) for vowel in "aiuə"}
    opening, width = ({v: getattr(m, name)[9] for v, m in mouths.items()} for name in ("opening", "width"))
    assert opening["a"] > opening["ə"] > opening["i"] > 0.1 and width["i"] > 0.9 and width["u"] < 0.1
    gliding = from_phonemes(spoken("ˈaɪ", each=0.4), 25)
    assert gliding.opening[7] > gliding.opening[13] and gliding.width[7] < gliding.width[13]
    for mouth in mouths.values():
        assert mouth.opening[0] < 0.01 and abs(mouth.width[0] - 0.5) < 0.01, "silence shuts it"


def test_marks_and_unknown_letters():
    for one, other in (("aː", "a"), ("th", "t"), ("ɔ̃", "ɔ"), ("ts.h", "ts")):
        assert (from_phonemes(spoken(one), 15).opening == from_phonemes(spoken(other), 15).opening).all()
    assert 0.1 < from_phonemes(spoken("☃", each=0.3), 15).opening.max() < 0.35
    assert not from_phonemes([], 15).opening.any()


def test_recordings_follow_from_their_seed():
    first, again = (draw_recording(np.random.default_rng(4), "train", 2.5) for _ in range(2))
    np.testing.assert_array_equal(first.samples, again.samples)
    assert first.phonemes == again.phonemes and first.phonemes[-1].end <= 2.5
    assert len(first.samples) == 40000 and 0.05 < np.abs(first.samples).max() <= 0.98
    quiet = [r for r in (draw_recording(np.random.default_rng(i), "test", 0.5) for i in range(40)) if not r.phonemes]
    assert quiet and all(np.isfinite(r.samples).all() for r in quiet)
