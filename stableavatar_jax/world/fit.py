"""The rule of `listening`, fitted to phoneme truth on training voices and judged on held-out ones."""

import multiprocessing

import numpy as np

from stableavatar_jax.shapes import Float
from stableavatar_jax.whole import whole
from stableavatar_jax.world.config import FPS, FitConfig, Split
from stableavatar_jax.world.correlation import correlation
from stableavatar_jax.world.listening import frame_features, from_sound, loudness, read_rule
from stableavatar_jax.world.mouth import from_phonemes
from stableavatar_jax.world.recording import draw_recording, noise

SECONDS = 6.0


def fit(config: FitConfig) -> str:
    """Write the rule; returns what it reaches."""
    heard, truth = zip(*_recordings(config, "train", config.recordings), strict=True)
    x = np.concatenate([frame_features(samples, len(t), FPS) for samples, t in zip(heard, truth, strict=True)])
    y = np.concatenate(truth)
    mean, scale = x.mean(0), x.std(0)
    z = (x - mean) / scale
    weights = np.linalg.solve(z.T @ z + config.penalty * len(z) * np.eye(z.shape[1]), z.T @ (y - y.mean())) / scale
    with whole(config.output) as partial, partial.open("wb") as file:
        np.savez(file, weights=weights.astype(np.float32), bias=np.float32(y.mean() - mean @ weights))
    read_rule.cache_clear()
    judged = [(s, t) for s, t in _recordings(config, "test", config.judged) if t.std() > 0]
    lines = [str(config.output)]
    for name, predict in (("rule", from_sound), ("loudness", loudness)):
        found = [correlation(predict(samples, len(t), FPS), t)[0] for samples, t in judged]
        lines.append(f"{name}: r {np.mean(found):.3f} in the mean, {np.percentile(found, 10):.3f} for the worst tenth")
    return "\n".join(lines)


def _recordings(config: FitConfig, split: Split, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    jobs = [(config.seed, split, number) for number in range(count)]
    with multiprocessing.get_context("spawn").Pool(config.workers) as pool:
        return pool.map(_recording, jobs, chunksize=4)


def _recording(job: tuple[int, Split, int]) -> tuple[Float[np.ndarray, "S"], Float[np.ndarray, "T"]]:
    """Samples and true opening. Every second recording for training has more noise than the world's own."""
    seed, split, number = job
    rng = np.random.default_rng((0xF17, split == "test", seed, number))
    recording = draw_recording(rng, split, SECONDS)
    samples = recording.samples
    if split == "train" and number % 2:
        level = np.sqrt(np.mean(np.square(samples)) + 1e-12)
        samples = samples + (noise(rng, len(samples)) * level * 10 ** (-rng.uniform(3, 25) / 20)).astype(np.float32)
    return samples, from_phonemes(recording.phonemes, round(SECONDS * FPS), FPS).opening
