"""Recordings made worse at random, as rooms, microphones, distance and codecs do: so that an encoder holds on them."""

import numpy as np

from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.shapes import Float

Sound = Float[np.ndarray, "S"]
EFFECT_SHARE = 0.5
"""Chance of each effect."""


def disturb(sound: Sound, rng: np.random.Generator) -> Sound:
    """The sound through some of: a filter, a room, a level that drifts, noise, a narrow band. Its timing stays."""
    for effect in (equalise, reverberate, drift, add_noise):
        if rng.random() < EFFECT_SHARE:
            sound = effect(sound, rng)
    return narrow(sound, rng) if rng.random() < EFFECT_SHARE / 2 else sound


def equalise(sound: Sound, rng: np.random.Generator) -> Sound:
    """A tilt of up to 5 dB an octave about 1 kHz, and three broad bumps of up to 8 dB."""
    octave = _octaves(len(sound))
    gain = rng.uniform(-5, 5) * octave
    for centre, height in zip(rng.uniform(-4, 3, 3), rng.uniform(-8, 8, 3), strict=True):
        gain += height * np.exp(-0.5 * ((octave - centre) / 0.6) ** 2)
    return _filter(sound, np.clip(gain, -30, 20))


def narrow(sound: Sound, rng: np.random.Generator) -> Sound:
    """What a telephone leaves: 80 to 400 Hz and 2 to 6 kHz are the edges."""
    octave = _octaves(len(sound))
    low, high = np.log2(rng.uniform(0.08, 0.4)), np.log2(rng.uniform(2, 6))
    return _filter(sound, -36 * (np.maximum(low - octave, 0) + np.maximum(octave - high, 0)))


def reverberate(sound: Sound, rng: np.random.Generator) -> Sound:
    """A room that decays by 60 dB in 0.1 to 0.6 s, 4 to 20 dB below the direct sound."""
    seconds = rng.uniform(0.1, 0.6)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    echo = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    echo *= 10 ** (-rng.uniform(4, 20) / 20) / np.sqrt(np.square(echo).sum())
    echo[0] += 1
    length = 1 << (len(sound) + len(echo) - 1).bit_length()  # other lengths take up to ten times as long
    wet = np.fft.irfft(np.fft.rfft(sound, length) * np.fft.rfft(echo, length), length)
    return wet[: len(sound)].astype(np.float32)


def drift(sound: Sound, rng: np.random.Generator) -> Sound:
    """A level that wanders by up to 6 dB, over about a second."""
    knots = rng.uniform(-6, 6, 2 + len(sound) // SAMPLE_RATE)
    gain = np.interp(np.linspace(0, len(knots) - 1, len(sound)), np.arange(len(knots)), knots)
    return (sound * 10 ** (gain / 20)).astype(np.float32)


def add_noise(sound: Sound, rng: np.random.Generator) -> Sound:
    """Noise between white and brown, 3 to 40 dB below the sound; a sound that is silent gets a little."""
    octave = _octaves(len(sound))
    noise = _filter(rng.standard_normal(len(sound)).astype(np.float32), -rng.uniform(0, 6) * octave)
    level = max(float(sound.std()), 1e-3) * 10 ** (-rng.uniform(3, 40) / 20)
    return (sound + noise * level / max(float(noise.std()), 1e-9)).astype(np.float32)


def stretch(sound: Sound, samples: int) -> Float[np.ndarray, "samples"]:
    """The sound played faster or slower, and so higher or lower, to last so many samples (linear interpolation)."""
    places = np.linspace(0, len(sound) - 1, samples)
    return np.interp(places, np.arange(len(sound)), sound).astype(np.float32)


def _octaves(samples: int) -> np.ndarray:
    """Octaves above 1 kHz of each frequency of a sound's spectrum, from 20 Hz on."""
    return np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 20.0) / 1000)


def _filter(sound: Sound, decibels: np.ndarray) -> Sound:
    return np.fft.irfft(np.fft.rfft(sound) * 10 ** (decibels / 20), len(sound)).astype(np.float32)
