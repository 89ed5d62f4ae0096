"""Windows of speech with what is known of it, as training batches of the audio encoder; all sounds stay in memory."""

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stableavatar_jax import media
from stableavatar_jax.data.clips.clip import Clip
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.config import SpeechConfig
from stableavatar_jax.data.order import Batch
from stableavatar_jax.data.sources.sounds import disturb, stretch
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.shapes import Float, Int

SILENCE = 0
"""Class of no phoneme."""


@dataclass(frozen=True)
class Speech:
    """The sound of a clip, and what its labels say."""

    id: str
    fps: float
    samples: Int[np.ndarray, "S"]
    """16 kHz, int16: half the memory."""
    mouth: Float[np.ndarray, "T 2"]
    """Opening and width in the middle of every frame."""
    spoken: tuple[tuple[str, float, float], ...]
    """First letter of a phoneme, and its start and end in seconds; in order."""

    def sound(self, first: int = 0, end: int | None = None) -> Float[np.ndarray, "s"]:
        """A piece of the sound in -1..1, as far as it goes."""
        return self.samples[first:end].astype(np.float32) / np.float32(32767)

    def mouth_at(self, seconds: Float[np.ndarray, "A"]) -> Float[np.ndarray, "A 2"]:
        """Opening and width at some moments."""
        frame = seconds * self.fps - 0.5
        curves = [np.interp(frame, np.arange(len(self.mouth)), curve) for curve in self.mouth.T]
        return np.stack(curves, -1).astype(np.float32)

    def letters_at(self, seconds: Float[np.ndarray, "A"]) -> list[str]:
        """The first letter of what is said at some moments, empty where nothing is."""
        latest = np.searchsorted([start for _, start, _ in self.spoken], seconds, "right") - 1
        begun = [self.spoken[i] if i >= 0 else ("", 0.0, 0.0) for i in latest]
        return [letter if t < end else "" for (letter, _, end), t in zip(begun, seconds, strict=True)]


def read_speech(clip: Clip) -> Speech:
    """The sound and labels of a clip. Raises Mistake where it has no sound, no labels or others than expected."""
    try:
        labels = json.loads(clip.labels or "null")
        mouth = np.stack([np.asarray(labels[name], np.float32) for name in ("opening", "width")], -1)
        spoken = tuple((first_letter(symbol), float(start), float(end)) for symbol, start, end in labels["phonemes"])
        if mouth.shape != (clip.frames, 2):
            raise Mistake(f"{len(mouth)} openings for {clip.frames} frames")
    except (ValueError, TypeError, KeyError) as error:
        raise Mistake(
            f"{clip.id}: its labels need opening and width (a number a frame) and phonemes ([symbol, start, end]), "
            f"as `python -m stableavatar_jax.world build` writes them ({type(error).__name__}: {error})",
            "no labels",
        ) from None
    samples = np.rint(np.clip(clip.samples, -1, 1) * 32767).astype(np.int16)
    return Speech(clip.id, clip.fps, samples, mouth, spoken)


def first_letter(symbol: str) -> str:
    """The first letter of a phoneme, without marks of stress, length or tone; all of it where it has no letter."""
    letters = (c for c in unicodedata.normalize("NFD", symbol) if unicodedata.category(c) in ("Ll", "Lo", "Lu"))
    return next(letters, symbol)


class SpeechSource:
    """A window of each clip, begun at a sample drawn anew in every epoch. A `Source` of batches.

    Arrays of an item: `sound` float32 [S], normalised as sampling does it; `clean` [S], the same undisturbed; `mouth`
    float32 [A, 2], opening and width; `phoneme` int32 [A].
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        config: SpeechConfig,
        times: Callable[[int], np.ndarray],
        tally: Tally | None = None,
    ):
        """`times` are the seconds in which the features of so many samples lie. Clips without labels or too short for
        a window are refused by the tally (default: an error)."""
        self.config, self.times, self.tally = config, times, tally or Tally()
        self.speech: list[Speech] = []
        for number in range(len(clips)):
            try:
                speech = read_speech(clips[number])
                if len(speech.samples) < self.samples(speech.fps) * config.speed[1]:
                    raise Mistake(
                        f"{speech.id}: a sound of {len(speech.samples)} samples, a window needs "
                        f"{self.samples(speech.fps) * config.speed[1]:.0f}; take shorter windows", "too short"
                    )
                self.speech.append(speech)
            except Mistake as error:
                self.tally.refuse(error)
        self.classes = classes(self.speech, config.phonemes)

    def samples(self, fps: float) -> int:
        """Number of samples in a window, as sampling cuts it (`media.window_sound`)."""
        return round(self.config.frames * SAMPLE_RATE / fps)

    @property
    def buckets(self) -> list[int]:
        """Samples of each clip's windows."""
        return [self.samples(speech.fps) for speech in self.speech]

    def read(self, item: int, rng: np.random.Generator) -> Batch:
        """A window of a clip, at random."""
        speech, config = self.speech[item], self.config
        length = self.samples(speech.fps)
        speed = rng.uniform(*config.speed)
        taken = round(length * speed)
        first = int(rng.integers(len(speech.samples) - taken, endpoint=True))
        clean = stretch(speech.sound(first, first + taken), length)
        sound = disturb(clean, rng) if rng.random() < config.disturbed else clean
        heard = int(rng.integers(length // 4, length)) if rng.random() < config.ending else length
        times = self.times(length)
        moments = first / SAMPLE_RATE + times * speed
        over = times * SAMPLE_RATE >= heard
        phoneme = np.array([self.classes.get(letter, config.phonemes - 1) for letter in speech.letters_at(moments)])
        return {
            "sound": np.pad(media.normalise(sound[:heard]), (0, length - heard)),
            "clean": np.pad(media.normalise(clean[:heard]), (0, length - heard)),
            "mouth": np.where(over[:, None], np.array([0, 0.5], np.float32), speech.mouth_at(moments)),
            "phoneme": np.where(over, SILENCE, phoneme).astype(np.int32),
        }


def classes(speech: Sequence[Speech], limit: int) -> dict[str, int]:
    """A class for each first letter, the most frequent ones first, as far as `limit` goes; silence is 0."""
    counted = Counter(letter for each in speech for letter, _, _ in each.spoken if letter)
    ordered = sorted(counted, key=lambda letter: (-counted[letter], letter))[: limit - 2]
    return {"": SILENCE} | {letter: 1 + i for i, letter in enumerate(ordered)}
