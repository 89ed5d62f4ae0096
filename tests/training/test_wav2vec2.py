"""Training of the audio encoder: it learns from labels, resumes exactly, and the probe tells a good one from a bad."""

import dataclasses
import io
import json
import wave

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import train
from stableavatar_jax.checkpoint import check_params
from stableavatar_jax.config import read_config
from stableavatar_jax.data.clips.clip import Clip
from stableavatar_jax.data.clips.dataset import write_clips
from stableavatar_jax.models.avatar import abstract_params, part
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.training.logs import read_rows
from stableavatar_jax.training.parts import probe as probes
from stableavatar_jax.training.parts import wav2vec2 as module
from tests.data import made
from tests.training import tiny

WAV2VEC2 = dataclasses.replace(tiny.MODEL.wav2vec2, conv_dims=(8,) * 7)
MODEL = dataclasses.replace(tiny.MODEL, wav2vec2=WAV2VEC2)
PRESET = """
from stableavatar_jax.training.parts.config import Wav2Vec2TrainConfig
from tests.training.test_wav2vec2 import MODEL
config = Wav2Vec2TrainConfig(model=MODEL, batch=2)
"""
FRAMES = 50


def talking(number: int) -> Clip:
    """A clip of noise that is as loud as its mouth is open."""
    rng = np.random.default_rng(number)
    opening = np.interp(np.arange(FRAMES), np.arange(0, FRAMES + 5, 5), rng.random(11))
    loud = np.interp(np.arange(FRAMES * 640) / 640 - 0.5, np.arange(FRAMES), opening)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1), out.setsampwidth(2), out.setframerate(16000)
        out.writeframes((rng.standard_normal(loud.size) * loud * 5000).astype("<i2").tobytes())
    labels = {"opening": opening.tolist(), "width": opening.tolist(), "phonemes": [["a", 0.4, 0.9], ["m", 1.0, 1.4]]}
    pictures = tuple(made.mask(i) for i in range(FRAMES))
    return Clip(
        id=f"clip-{number}", kind="talking", fps=25.0, frames=FRAMES, height=48, width=64, sound_rate=16000,
        images=pictures, face_masks=pictures, lip_masks=pictures, sound=file.getvalue(), labels=json.dumps(labels),
    )  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wav2vec2")
    write_clips(folder / "clips", lambda: map(talking, range(4)))
    (folder / "preset.py").write_text(PRESET)
    return folder / "clips"


def run(clips, folder, steps, *more):
    return train.main(["--part", "wav2vec2", "--config", str(clips.parent / "preset.py"), "--clips", str(clips),
                       "--run-dir", str(folder), "--steps", str(steps), "--speech.frames", "13", "--mesh.fsdp", "1",
                       "--checkpoint-every", "2", "--optimizer.warmup", "1", *more])  # fmt: skip


def test_a_run_goes_on_and_is_exported(clips, tmp_path):
    more = "--validate-every", "4"
    assert run(clips, tmp_path / "whole", 4, *more) == 0
    assert run(clips, tmp_path / "parts", 2, *more) == 0
    assert run(clips, tmp_path / "parts", 4, *more) == 0
    whole, parts = (read_rows(tmp_path / name / "metrics.csv") for name in ("whole", "parts"))
    names = "loss", "mel", "mouth", "phoneme", "gradient_norm"
    assert [[row[name] for name in names] for row in whole] == [[row[name] for name in names] for row in parts]
    measured, = read_rows(tmp_path / "whole" / "validation.csv")
    assert measured["loudness_r"] > 0.9 and abs(measured["probe_r"]) <= 1
    assert run(clips, tmp_path / "whole", 4, *more, "--export", str(tmp_path / "model")) == 0
    model = read_config(tmp_path / "model", AvatarConfig)
    check_params(tmp_path / "model" / "wav2vec2", abstract_params(part(model, "wav2vec2")))


def test_the_spectrum_of_a_feature_is_that_of_its_samples():
    """A tone is heard in its own band, and only by the features that reach it."""
    assert WAV2VEC2.reach() == (400, 320)
    sound = np.zeros((1, 16000), np.float32)
    sound[0, 8000:12000] = np.sin(np.arange(4000) * 2 * np.pi * 1000 / 16000)
    bank = module.mel_bank(WAV2VEC2, 40)
    mel = np.asarray(module.log_mel(jnp.asarray(sound), WAV2VEC2, bank))[0]
    heard = np.flatnonzero(mel.max(1) > mel.min() + 0.5)
    assert mel.shape == (49, 40) and 8000 - 400 <= heard[0] * 320 <= 8000 and 11600 <= heard[-1] * 320 <= 12000
    band = int(mel[30].argmax())
    assert bank[:, band].argmax() == pytest.approx(1000 / 16000 * 512, abs=2)


def test_features_are_hidden_in_spans():
    hidden = np.asarray(module.hidden(jax.random.key(0), (200, 100), 0.1))
    assert 0.07 < hidden.mean() < 0.12
    edges = np.diff(np.pad(hidden[:, module.HIDDEN_SPAN : -module.HIDDEN_SPAN].astype(int), ((0, 0), (1, 1))))
    spans = np.flatnonzero(edges.ravel() < 0) - np.flatnonzero(edges.ravel() > 0)
    assert np.median(spans) == module.HIDDEN_SPAN


def test_ridge_finds_a_linear_map():
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((500, 6)), rng.standard_normal(6)
    told = probes.ridge(x, x @ weights + 2)
    new = rng.standard_normal((50, 6))
    np.testing.assert_allclose(told(new), new @ weights + 2, atol=0.02)
    assert probes.correlation(told(new), new @ weights) > 0.999 and probes.correlation(np.ones(5), np.arange(5.0)) == 0
