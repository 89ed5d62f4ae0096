"""The Python interface: what it takes, what it refuses, and what it keeps between calls."""

import re
import wave
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import stableavatar_jax
from stableavatar_jax import Mistake, media
from stableavatar_jax.demo.preset import PICTURE, SPEECH
from stableavatar_jax.sampling.__main__ import main

ROOT = Path(__file__).parents[1]
FAST = {"height": 32, "width": 32, "steps": 1, "guidance": "none", "window": 3, "overlap": 0, "batches": 1}
RATE = 16000


@pytest.fixture(scope="module")
def avatar():
    """The tiny preset, whose weights are random."""
    return stableavatar_jax.load("tiny", **FAST)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 255, (80, 70, 3), np.uint8)


@pytest.fixture(scope="module")
def samples():
    return (0.3 * np.sin(np.arange(RATE // 4) * 0.05)).astype(np.float32)


def test_arrays_pictures_and_paths_give_one_video(avatar, pixels, samples, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "face.png")
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(RATE)
        file.writeframes((samples * 32768).astype("<i2").tobytes())
    whole = (samples * 32768).astype(np.int16)
    first = np.concatenate(list(avatar.video(pixels, whole, rate=RATE)))
    assert first.shape == (7, 32, 32, 3) and first.dtype == np.uint8
    again = [
        avatar.video(str(tmp_path / "face.png"), str(tmp_path / "speech.wav")),
        avatar.video(Image.fromarray(pixels), whole[:, None], rate=RATE),
        avatar.video(pixels / 255, whole / 32768, rate=RATE),
    ]
    for video in again:
        np.testing.assert_array_equal(np.concatenate(list(video)), first)
        assert len(video) == 7 and video.fps == 25


def test_it_makes_what_the_command_line_makes(avatar, pixels, samples, tmp_path, monkeypatch):
    Image.fromarray(pixels).save(tmp_path / "face.png")
    monkeypatch.chdir(tmp_path)
    whole = (samples * 32768).astype(np.int16)
    with wave.open("speech.wav", "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(RATE)
        file.writeframes(whole.tobytes())
    options = [f"--{name}={value}" for name, value in FAST.items()]
    files = ["--image", "face.png", "--audio", "speech.wav", "--output", "a.mp4"]
    assert main(["--config", "tiny", *options, *files]) == 0
    assert avatar.video(pixels, whole, rate=RATE).save("b.mp4") == Path("b.mp4")
    pairs = list(zip(media.read_video(Path("a.mp4")), media.read_video(Path("b.mp4")), strict=True))
    assert len(pairs) == 7 and all(np.array_equal(*pair) for pair in pairs)
    said, heard = (media.read_sound(Path(name)) for name in ("a.mp4", "b.mp4"))
    np.testing.assert_allclose(said, heard, atol=1e-3)


def test_a_second_call_traces_and_reads_nothing(avatar, pixels, samples, monkeypatch):
    list(avatar.video(pixels, samples, rate=RATE))
    traced = []
    listen = lambda name, *_, **__: traced.append(name) if "trace" in name or "compile" in name else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)
    monkeypatch.setattr("stableavatar_jax.checkpoint.load_part", lambda *_, **__: pytest.fail("read again"))
    try:
        list(avatar.video(pixels, samples[::-1].copy(), rate=RATE, prompt="Another person", seed=3))
        assert not traced
        jax.jit(lambda x: x + 1)(samples)
        assert traced  # so it would have been seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_saving_after_looking_only_decodes(avatar, pixels, samples, tmp_path, monkeypatch):
    video = avatar.video(pixels, samples, rate=RATE)
    list(video)
    monkeypatch.setattr(type(video._avatar), "latents", lambda *_: pytest.fail("denoised again"))
    assert media.probe(video.save(tmp_path / "talk.mp4")).frames == 7


@pytest.mark.parametrize(("changes", "words"), [
    ({"stepz": 3}, "did you mean steps"),
    ({"steps": "many"}, "steps is \"many\", int is needed"),
    ({"steps": 0}, "steps is 0, at least 1 is needed"),
    ({"height": 50}, "48 is the nearest"),
    ({"overlap": 1}, "overlap 1 is impossible"),
    ({"checkpoint": "x"}, "checkpoint is not an option here"),
    ({"image": "nobody.png"}, "nobody.png"),
    ({"image": np.zeros((80, 70, 2))}, "image has shape"),
    ({"image": np.full((80, 70, 3), 200.0)}, "outside 0..1"),
    ({"image": np.zeros((8, 8, 3), np.uint8)}, "too small"),
    ({"audio": "nothing.wav"}, "nothing.wav"),
    ({"rate": None}, "rate is needed"),
    ({"audio": np.zeros((2, 2, 2))}, "audio has shape"),
    ({"audio": np.full(RATE, np.nan, np.float32)}, "not finite"),
])  # fmt: skip
def test_refused_as_on_the_command_line(avatar, pixels, samples, changes, words):
    given = {"image": pixels, "audio": samples, "rate": RATE} | changes
    with pytest.raises(Mistake, match=re.escape(words)):
        avatar.video(given.pop("image"), given.pop("audio"), **given)


@pytest.mark.parametrize(("model", "options", "words"), [
    ("demoo", {}, "did you mean demo"),
    ("weights/none", {}, "no such model directory"),
    ("demo", {"dtype": "int8"}, "one of float32, bfloat16 is needed"),
    ("demo", {"lora": "none.safetensors"}, "none.safetensors"),
])
def test_models_that_are_refused(model, options, words):
    with pytest.raises(Mistake, match=re.escape(words)):
        stableavatar_jax.load(model, **options)


def test_the_example_of_the_readme(tmp_path, monkeypatch):
    """As it stands there, with the bundled character and the start of the bundled speech under the example's names."""
    (code,) = re.findall(r"```python run\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("face.png").write_bytes(PICTURE.read_bytes())
    with wave.open("speech.wav", "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(RATE)
        file.writeframes((media.read_sound(SPEECH)[: RATE // 2] * 32767).astype("<i2").tobytes())
    exec(code, {})
    assert media.probe(Path("talk.mp4")).frames == 13
