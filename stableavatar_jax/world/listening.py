"""The mouth of a recording without known phonemes: one linear rule, fitted to `mouth.from_phonemes`.

A frame's opening is a weighted sum of the log-mel energies in the nine fiftieths of a second around its middle. The
weights are ridge regression on the world's training voices (`fit.py`), and kept in `rule.npz`. Needs no synthesiser.
"""

import functools
from importlib import resources

import librosa
import numpy as np

from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.shapes import Float
from stableavatar_jax.world.config import RULE

RATE = 50
"""Moments a second at which the sound is described; moment k is at k / RATE seconds."""
BANDS = 40
LOWEST, HIGHEST = 60.0, 8000.0
"""Hz; the bands are evenly spaced in mel between these."""
WINDOW, POINTS = 400, 512
"""Samples seen at a moment (25 ms), and of the Fourier transform."""
CONTEXT = 4
"""Moments on either side."""
SPEECH = 25.0
"""Decibels below a recording's loud moments (the 95th percentile) in which its bands are levelled."""
RANGE = 30.0
"""Decibels around its level to which a band is clipped, so that it hardly matters how quiet a pause is."""
DEAD = -75.0
"""Decibels (full scale is 0). A recording that is never louder is silence, and the mouth stays shut."""
LOUDNESS_BAND = (250.0, 3800.0)
LOUDNESS_RANGE = 35.0


def from_sound(samples: Float[np.ndarray, "S"], frames: int, fps: int | float = 25) -> Float[np.ndarray, "frames"]:
    """The opening (0..1) at the middle of every frame, as the rule has it. `samples` are at 16 kHz, of any level."""
    mel = log_mel(samples)
    if _level(mel) < DEAD:
        return np.zeros(frames, np.float32)
    weights, bias = read_rule()
    return _at_frames(features(mel) @ weights + bias, frames, fps)


def loudness(samples: Float[np.ndarray, "S"], frames: int, fps: int | float = 25) -> Float[np.ndarray, "frames"]:
    """The baseline: decibels between 250 and 3800 Hz, smoothed over 0.1 s, 0 to 1 over the 35 dB below the loudest."""
    mel = log_mel(samples)
    if _level(mel) < DEAD:
        return np.zeros(frames, np.float32)
    heard = (centres() > LOUDNESS_BAND[0]) & (centres() < LOUDNESS_BAND[1])
    energy = _energy(mel[:, heard])
    smooth = np.convolve(np.pad(energy, 2, mode="edge"), (0.1, 0.2, 0.4, 0.2, 0.1), mode="valid")
    return _at_frames((smooth - np.percentile(smooth, 95)) / LOUDNESS_RANGE + 1, frames, fps)


def log_mel(samples: Float[np.ndarray, "S"]) -> Float[np.ndarray, "M 40"]:
    """Decibels in each band at every moment."""
    moments, step = len(samples) // (SAMPLE_RATE // RATE) + 1, SAMPLE_RATE // RATE
    padded = np.pad(samples, (WINDOW // 2, WINDOW + step))
    cut = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::step][:moments]
    power = np.abs(np.fft.rfft(cut * np.hanning(WINDOW), POINTS)) ** 2 / np.sum(np.hanning(WINDOW)) ** 2
    return 10 * np.log10(power @ _filters().T + 1e-12)


def features(mel: Float[np.ndarray, "M 40"]) -> Float[np.ndarray, "M 360"]:
    """The rule's input: every band relative to its own mean in speech, so that microphone and level do not matter."""
    loud = _energy(mel)
    level = mel[loud > np.percentile(loud, 95) - SPEECH].mean(0)
    levelled = np.clip(mel - level, -RANGE, RANGE)
    padded = np.pad(levelled, ((CONTEXT, CONTEXT), (0, 0)), mode="edge")
    return np.concatenate([padded[i : i + len(mel)] for i in range(2 * CONTEXT + 1)], axis=1)


def frame_features(
    samples: Float[np.ndarray, "S"], frames: int, fps: int | float = 25
) -> Float[np.ndarray, "frames 360"]:
    """The features at the middle of every frame, or at the moment nearest to it."""
    found = features(log_mel(samples))
    nearest = np.rint((np.arange(frames) + 0.5) / fps * RATE).astype(int)
    return found[np.minimum(nearest, len(found) - 1)]


@functools.cache
def centres() -> Float[np.ndarray, "40"]:
    """Middles of the bands, in Hz."""
    return librosa.mel_frequencies(BANDS + 2, fmin=LOWEST, fmax=HIGHEST, htk=True)[1:-1]


def _at_frames(curve: Float[np.ndarray, "M"], frames: int, fps: int | float) -> Float[np.ndarray, "frames"]:
    middles = (np.arange(frames) + 0.5) / fps
    return np.interp(middles, np.arange(len(curve)) / RATE, curve).clip(0, 1).astype(np.float32)


def _energy(mel: Float[np.ndarray, "M bands"]) -> Float[np.ndarray, "M"]:
    """Loudness of all bands together, in decibels."""
    return 10 * np.log10(np.sum(10 ** (mel / 10), axis=1))


def _level(mel: Float[np.ndarray, "M 40"]) -> float:
    return float(np.percentile(_energy(mel), 95))


@functools.cache
def _filters() -> Float[np.ndarray, "40 257"]:
    """Triangles over the mel scale, each with a sum of one."""
    filters = librosa.filters.mel(
        sr=SAMPLE_RATE, n_fft=POINTS, n_mels=BANDS, fmin=LOWEST, fmax=HIGHEST, htk=True, norm=None, dtype=np.float64
    )
    return filters / filters.sum(1, keepdims=True)


@functools.cache
def read_rule() -> tuple[Float[np.ndarray, "360"], float]:
    """The weights of the features, and what is added."""
    with resources.files("stableavatar_jax.world").joinpath(RULE).open("rb") as file, np.load(file) as rule:
        return rule["weights"], float(rule["bias"])
