"""A recording as a clip needs it: sentences of one voice with pauses between them, as if through some microphone."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.shapes import Float
from stableavatar_jax.world.config import Split
from stableavatar_jax.world.speech import Phoneme
from stableavatar_jax.world.voices import draw_voice, sentences

SILENT_SHARE, NOISY_SHARE, PAUSED_SHARE = 0.03, 0.4, 0.8
"""Shares of recordings in which nobody speaks and in which there is noise, and the share of gaps between sentences
that are pauses of 0.2 to 0.8 s."""


@dataclass(frozen=True)
class Recording:
    """A sound at 16 kHz and what is said in it."""

    samples: Float[np.ndarray, "S"]
    phonemes: tuple[Phoneme, ...]
    voice: str
    """espeak-ng's name of who speaks."""


def draw_recording(rng: np.random.Generator, split: Split, seconds: float) -> Recording:
    """A random recording of exactly `seconds`; what is said at its end may be cut off."""
    voice = draw_voice(rng, split)
    samples, phonemes = np.zeros(round(seconds * SAMPLE_RATE), np.float32), []
    texts = rng.permutation(np.array(sentences(voice.language, split), dtype=object))
    end, number = rng.uniform(0.0, 0.5), 0
    if rng.random() < SILENT_SHARE:
        end = seconds
    while end < seconds:
        speech = voice.say(str(texts[number % len(texts)]))
        spoken = to_rate(speech.samples, speech.rate)
        first = round(end * SAMPLE_RATE)
        samples[first : first + len(spoken)] = spoken[: len(samples) - first]
        moved = (dataclasses.replace(p, start=p.start + end, end=min(p.end + end, seconds)) for p in speech.phonemes)
        phonemes += [phoneme for phoneme in moved if phoneme.start < seconds]
        pause = rng.uniform(0.2, 0.8) if rng.random() < PAUSED_SHARE else rng.uniform(0.02, 0.12)
        end += speech.seconds + pause
        number += 1
    return Recording(through_microphone(samples, rng), tuple(phonemes), voice.name)


def through_microphone(
    samples: Float[np.ndarray, "S"], rng: np.random.Generator, noisy: float = NOISY_SHARE
) -> Float[np.ndarray, "S"]:
    """The sound in a random room, through random filters, with noise 15 to 45 dB below it at times, at a random level.

    Peaks are at most 0.98. `noisy` is the chance of noise.
    """
    out = _room(_filtered(samples, rng), rng) if rng.random() < 0.5 else _filtered(samples, rng)
    spoken = np.square(out[np.abs(out) > 1e-3])
    level = float(np.sqrt(spoken.mean())) if spoken.size else 0.05
    if rng.random() < noisy:
        out = out + noise(rng, len(out)) * level * 10 ** (-rng.uniform(15, 45) / 20)
    peak = max(float(np.abs(out).max()), 4 * level if not spoken.size else 1e-6)
    return (out / peak * min(0.98, 10 ** (-rng.uniform(0, 18) / 20))).astype(np.float32)


def noise(rng: np.random.Generator, length: int) -> Float[np.ndarray, "length"]:
    """Noise of unit power, between white and brown, such as wind, hum of machines, hiss."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum *= np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), 40.0) ** -rng.uniform(0.0, 1.0)
    out = np.fft.irfft(spectrum, length)
    return out / np.sqrt(np.mean(out**2))


def _filtered(samples: Float[np.ndarray, "S"], rng: np.random.Generator) -> Float[np.ndarray, "S"]:
    """A tilt of up to 4 dB an octave, three broad bumps of up to 6 dB, and a low cut."""
    frequency = np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE), 20.0)
    octave = np.log2(frequency / 1000)
    gain = rng.uniform(-4, 4) * octave
    for centre, height in zip(rng.uniform(-3, 3, 3), rng.uniform(-6, 6, 3), strict=True):
        gain += height * np.exp(-0.5 * ((octave - centre) / 0.6) ** 2)
    gain = np.clip(gain, -24, 18) - 24 * np.maximum(0, np.log2(rng.uniform(30, 150) / frequency))
    return np.fft.irfft(np.fft.rfft(samples) * 10 ** (gain / 20), len(samples))


def _room(samples: Float[np.ndarray, "S"], rng: np.random.Generator) -> Float[np.ndarray, "S"]:
    """A small room: an exponentially falling tail of noise, 10 to 25 dB below the voice itself."""
    after = np.arange(round(0.25 * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(after)) * np.exp(-after / rng.uniform(0.02, 0.06))
    tail *= 10 ** (-rng.uniform(10, 25) / 20) / np.sqrt(np.sum(tail**2))
    length = len(samples) + len(tail)
    wet = np.fft.irfft(np.fft.rfft(samples, length) * np.fft.rfft(tail, length), length)[: len(samples)]
    return samples + wet


def to_rate(samples: Float[np.ndarray, "S"], rate: int) -> Float[np.ndarray, "S2"]:
    """The sound at 16 kHz."""
    import librosa  # here, because its first use in a process takes 2 s

    return librosa.resample(samples, orig_sr=rate, target_sr=SAMPLE_RATE, res_type="soxr_hq")
