"""Whether the audio encoder's features say what a DiT will have to find in them: a linear map to the mouth's opening.

Features are computed window by window as sampling does; the map is a ridge regression from those of the two video
frames before and after, fitted on one set of clips and measured on another. A correlation above 0.9 is wanted before
any DiT is trained on an encoder.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax import media
from stableavatar_jax.data.clips.clip import Clip
from stableavatar_jax.data.sources.speech import Speech, read_speech
from stableavatar_jax.frames import SAMPLE_RATE, evenly
from stableavatar_jax.models.wav2vec2 import Wav2Vec2
from stableavatar_jax.shapes import Float

REACH = 2
"""Video frames before and after that are read too."""
MOST_CLIPS = 128
"""Largest number of clips taken of either set."""


def probe(
    encoder: Wav2Vec2, clips: Sequence[Clip], held_out: Sequence[Clip], frames: int
) -> Callable[[Any], dict[str, float]]:
    """`measure(params) -> {name: correlation}` of predicted and true opening (`probe_r` of all frames together,
    `probe_r_clip` in the mean of clips) and, for comparison, of a map that knows the loudness alone (`loudness_r`).

    Where both sets are one, it is fitted on the first half and measured on the second. Raises Mistake.
    """
    if clips is held_out:
        half = len(clips) // 2
        fit, test = spread(clips, 0, half), spread(clips, half, len(clips))
    else:
        fit, test = spread(clips, 0, len(clips)), spread(held_out, 0, len(held_out))
    encode = jax.jit(lambda params, sound: encoder.apply({"params": params}, sound))

    def seen(speech: Speech, params: Any) -> np.ndarray:
        """Features around every frame [T, R D]."""
        sound, length = speech.sound(), len(speech.mouth)
        windows = [media.window_sound(sound, start, frames, speech.fps) for start in range(0, length, frames)]
        made = np.asarray(encode(params, jnp.asarray(np.stack(windows))))
        field, step = encoder.config.reach()
        at = (np.arange(frames) + 0.5) / speech.fps * SAMPLE_RATE
        offsets = np.arange(-2 * REACH, 2 * REACH + 1) * SAMPLE_RATE / speech.fps / 2
        places = np.rint((at[:, None] + offsets - (field - 1) / 2) / step).astype(int).clip(0, made.shape[1] - 1)
        return made[:, places].reshape(len(windows) * frames, -1)[:length]

    def loudness(speech: Speech) -> np.ndarray:
        edges = np.rint(np.arange(len(speech.mouth) + 1) * SAMPLE_RATE / speech.fps).astype(int)
        sound = speech.sound()
        pieces = np.split(np.pad(sound, (0, max(0, edges[-1] - len(sound))))[: edges[-1]], edges[1:-1])
        level = np.pad([np.log(1e-3 + np.sqrt(np.square(piece).mean())) for piece in pieces], REACH, mode="edge")
        return np.stack([level[i : i + len(pieces)] for i in range(2 * REACH + 1)], -1)

    def correlations(describe: Callable[[Speech], np.ndarray]) -> tuple[float, float]:
        told = ridge(np.concatenate([describe(s) for s in fit]), np.concatenate([s.mouth[:, 0] for s in fit]))
        pairs = [(told(describe(speech)), speech.mouth[:, 0]) for speech in test]
        each = [correlation(a, b) for a, b in pairs if b.std() > 0.02]
        return correlation(*(np.concatenate(side) for side in zip(*pairs, strict=True))), float(np.mean(each))

    loudness_r, _ = correlations(loudness)

    def measure(params: Any) -> dict[str, float]:
        together, clip = correlations(lambda speech: seen(speech, params))
        return {"probe_r": together, "probe_r_clip": clip, "loudness_r": loudness_r}

    return measure


def spread(clips: Sequence[Clip], first: int, end: int) -> list[Speech]:
    """Up to `MOST_CLIPS` of a range of clips, spread evenly."""
    return [read_speech(clips[first + number]) for number in evenly(MOST_CLIPS, end - first)]


def ridge(
    x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "N"], penalty: float = 1e-3
) -> Callable[[np.ndarray], np.ndarray]:
    """The linear map from x to y; its weights, for x of unit variance, cost `penalty` times the number of rows."""
    x = x.astype(np.float64)
    mean, scale = x.mean(0), x.std(0) + 1e-6
    z = (x - mean) / scale
    weights = np.linalg.solve(z.T @ z + penalty * len(z) * np.eye(z.shape[1]), z.T @ (y - y.mean()))
    return lambda new: (new - mean) / scale @ weights + y.mean()


def correlation(a: Float[np.ndarray, "N"], b: Float[np.ndarray, "N"]) -> float:
    """Pearson's, 0 where one of them is constant."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-9 and b.std() > 1e-9 else 0.0
