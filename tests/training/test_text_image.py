"""Training of the text and the image encoder: they learn whose prompt is whose, resume exactly, and are exported."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import train
from stableavatar_jax.checkpoint import Parts
from stableavatar_jax.config import read_config
from stableavatar_jax.data.clips.clip import Clip
from stableavatar_jax.data.clips.dataset import write_clips
from stableavatar_jax.encoding.encoders import Encoders
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.models.contrast import Compared, Contrast, unit
from stableavatar_jax.training.logs import read_rows
from stableavatar_jax.training.parts.contrast_loss import contrastive_loss
from tests.training import tiny

MODEL = dataclasses.replace(tiny.MODEL, umt5=dataclasses.replace(tiny.MODEL.umt5, vocab=384), tokenizer="bytes")
PRESET = """
from stableavatar_jax.training.parts.config import TextImageTrainConfig
from tests.training.test_text_image import MODEL
config = TextImageTrainConfig(model=MODEL, batch=4)
"""
COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200), "black": (20, 20, 20)}


def clip(colour: str) -> Clip:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), COLOURS[colour]).save(file, "PNG")
    return Clip(id=colour, kind="talking", fps=25.0, frames=2, height=16, width=16, sound_rate=16000, prompt=colour,
                images=(file.getvalue(),) * 2)  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    write_clips(folder / "clips", lambda: map(clip, COLOURS))
    (folder / "preset.py").write_text(PRESET)
    return folder / "clips"


def run(clips, folder, steps, *more):
    return train.main(["--part", "text_image", "--config", str(clips.parent / "preset.py"), "--clips", str(clips),
                       "--run-dir", str(folder), "--steps", str(steps), "--mesh.fsdp", "1", "--checkpoint-every", "20",
                       "--optimizer.learning-rate", "0.01", "--optimizer.warmup", "2", "--optimizer.ema", "0.8",
                       *more])  # fmt: skip


def test_they_learn_and_go_on_and_are_exported(clips, tmp_path):
    assert run(clips, tmp_path / "whole", 40, "--validate-every", "40") == 0
    assert run(clips, tmp_path / "parts", 20) == 0
    assert run(clips, tmp_path / "parts", 40) == 0
    whole, parts = (read_rows(tmp_path / name / "metrics.csv") for name in ("whole", "parts"))
    names = "loss", "accuracy", "accuracy_of_text", "scale", "gradient_norm"
    assert [[row[name] for name in names] for row in whole] == [[row[name] for name in names] for row in parts]
    measured, = read_rows(tmp_path / "whole" / "validation.csv")
    assert measured["step"] == 40 and measured["accuracy"] == measured["accuracy_of_text"] == 1
    assert measured["loss"] < 0.5 < whole[0]["loss"]

    assert run(clips, tmp_path / "whole", 40, "--export", str(tmp_path / "model")) == 0
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["clip_vision", "config.json", "umt5"]
    model = read_config(tmp_path / "model", AvatarConfig)
    read = Encoders(Parts(model, tmp_path / "model"), text_dtype="float32")
    texts, mask = read.text(list(COLOURS))
    assert texts.shape == (4, 6, 12) and mask.any(1).all()
    assert read.images([np.zeros((16, 16, 3), np.float32)])[0].shape == (5, 10)


def test_equal_prompts_are_nobodys_mistake():
    """The loss of a batch is that of plain CLIP where all prompts differ; those of equal ids are no candidates."""
    rng = np.random.default_rng(0)
    texts, pictures = (unit(jnp.asarray(rng.standard_normal((4, 3)), jnp.float32)) for _ in range(2))
    scores = np.asarray(5 * pictures @ texts.T)
    softmax = lambda s: np.exp(s) / np.exp(s).sum(1, keepdims=True)  # noqa: E731
    plain = -np.log(np.diag(softmax(scores))).mean() - np.log(np.diag(softmax(scores.T))).mean()
    ids = jnp.arange(4)[:, None]
    compared = Compared(texts, pictures, jnp.float32(5))
    loss, measured = contrastive_loss(compared, ids)
    np.testing.assert_allclose(loss, plain / 2, rtol=1e-5)
    np.testing.assert_allclose(measured["accuracy"], (scores.argmax(1) == np.arange(4)).mean())

    loss, measured = contrastive_loss(compared, ids.at[1:].set(0))
    np.testing.assert_allclose([loss, measured["accuracy"], measured["accuracy_of_text"]], [0, 1, 1], atol=1e-6)
    # A clip that is in the batch twice changes nothing for the picture of another but the weight of its prompt.
    twice = Compared(*(jnp.concatenate([x, x[:1]]) for x in (texts, pictures)), jnp.float32(5))
    _, measured = contrastive_loss(twice, jnp.concatenate([ids, ids[:1]]))
    alone = scores.argmax(1) == np.arange(4)
    np.testing.assert_allclose(measured["accuracy"], (alone.sum() + alone[0]) / 5)


def test_padding_is_not_compared():
    contrast = Contrast(4, 6, 5)
    key = jax.random.key(0)
    texts, pictures = jax.random.normal(key, (2, 3, 6)), jax.random.normal(key, (2, 4, 5))
    mask = jnp.array([[True, True, False], [True, False, False]])
    params = contrast.init(key, texts, mask, pictures)
    one = contrast.apply(params, texts, mask, pictures)
    other = contrast.apply(params, jnp.where(mask[..., None], texts, 9.0), mask, pictures)
    np.testing.assert_allclose(one.texts, other.texts, rtol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(one.pictures, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(one.scale, 1 / 0.07, rtol=1e-5)
