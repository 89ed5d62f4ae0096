"""`sample.py` as a user runs it: lengths, overlaps, what is written and what is refused."""

import dataclasses
import shutil
import wave
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.checkpoint import load_part, save_params
from stableavatar_jax.config import write_config
from stableavatar_jax.configs import tiny
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models import lora
from stableavatar_jax.models.avatar import PARTS, abstract_params, part
from stableavatar_jax.sampling import avatar
from stableavatar_jax.sampling.__main__ import main, run
from stableavatar_jax.sampling.config import change
from stableavatar_jax.weights.lora_writer import save_lora

SIZE = 32
OVERLAPS = (0, 2, 5, 10, 15)
LENGTHS = (0.1, 0.2, 3.2, 3.24, 3.28, 3.36, 5.0, 61.0)
# Every length, every overlap, and every overlap on a video of several windows.
PAIRS = [*zip(LENGTHS, (10, 5, 0, 2, 15, 10, 5, 10), strict=True), *((5.0, overlap) for overlap in (0, 2, 10, 15))]
FAST = change(tiny.config, height=SIZE, width=SIZE, steps=1, guidance="none")


def picture(folder: Path) -> Path:
    path = folder / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)).save(path)
    return path


def recording(folder: Path, seconds: float, rate: int = 16000) -> Path:
    """A gliding tone with pauses: no two moments sound alike, so a shift would show."""
    t = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (180 * t + 40 * np.sin(1.3 * t))) * (0.2 + 0.6 * (np.sin(3.1 * t**1.1) > -0.2))
    path = folder / f"{seconds}.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(rate)
        file.writeframes((tone * 20000).astype("<i2").tobytes())
    return path


def job(folder: Path, seconds: float = 1.0, **changes):
    changes = {"image": picture(folder), "audio": recording(folder, seconds), "output": folder / "out.mp4"} | changes
    return change(FAST, **changes)


def test_a_part_of_the_recording_is_spoken(tmp_path):
    config = job(tmp_path, 3.0, start=1.3, duration=0.48, preview=tmp_path / "preview.jpg")
    run(config)
    with Image.open(tmp_path / "preview.jpg") as preview:
        assert preview.size == (SIZE, SIZE)
    heard, said = media.read_sound(config.keeping.output), media.read_sound(config.inputs.audio)
    assert media.probe(config.keeping.output).frames == 12
    assert np.corrcoef(heard[:7680], said[20800:28480])[0, 1] > 0.99
    with pytest.raises(Mistake, match="sound track 2 is not there"):
        run(change(config, audio_track=2))


@pytest.mark.parametrize(("seconds", "overlap"), PAIRS)
def test_the_video_is_as_long_as_the_recording(tmp_path, monkeypatch, seconds, overlap):
    written = []
    write = media.VideoWriter.write
    monkeypatch.setattr(media.VideoWriter, "write", lambda self, frames: (written.append(frames), write(self, frames)))
    config = job(tmp_path, seconds, overlap=overlap, latents=tmp_path / "z.npy")
    run(config)
    info = media.probe(config.keeping.output)
    assert abs(info.frames - seconds * config.frame.fps) <= 1 and (info.height, info.width) == (SIZE, SIZE)

    heard, said = media.read_sound(config.keeping.output), media.read_sound(config.inputs.audio)
    assert abs(len(heard) - len(said)) <= 16000 / config.frame.fps + 1024  # the frame, and the last packet of AAC
    length = min(len(heard), len(said))
    assert np.corrcoef(heard[:length], said[:length])[0, 1] > 0.99

    # What H.264 was given is the whole sequence decoded at once. The decoder is causal, so its start is enough.
    z = np.load(config.keeping.latents)[:22]
    vae, params = load_part(None, config.model, "vae", seed=config.inputs.seed)
    whole, _ = jax.jit(lambda p, z: vae.apply({"params": p}, z, method="decode"))(params, jnp.asarray(z[None]))
    expected = media.postprocess(np.asarray(whole[0]))[: info.frames]
    given = np.concatenate(written)
    assert len(given) == info.frames
    assert np.abs(given[: len(expected)].astype(int) - expected).max() <= 1


def test_the_same_seed_gives_the_same_video(tmp_path):
    """Also where the recording goes on: a window that hears the same and shares nothing is the same to the bit."""
    runs = {}
    for name, seconds, seed in (("one", 3.24, 0), ("again", 3.24, 0), ("longer", 5.0, 0), ("other", 3.24, 1)):
        config = job(tmp_path, seconds, overlap=0, seed=seed, latents=tmp_path / f"{name}.npy")
        run(change(config, audio=cut(recording(tmp_path, 5.0), seconds)))
        runs[name] = np.load(config.keeping.latents)
    np.testing.assert_array_equal(runs["one"], runs["again"])
    np.testing.assert_array_equal(runs["one"], runs["longer"][:21])
    assert len(runs["longer"]) == 32 and np.abs(runs["one"] - runs["other"]).max() > 0.1


def cut(path: Path, seconds: float) -> Path:
    """The first seconds of a recording."""
    with wave.open(str(path)) as file:
        parameters, samples = file.getparams(), file.readframes(round(seconds * file.getframerate()))
    shorter = path.with_name(f"cut-{seconds}.wav")
    with wave.open(str(shorter), "wb") as file:
        file.setparams(parameters)
        file.writeframes(samples)
    return shorter


def test_conditions_from_a_file_give_the_same_video(tmp_path):
    config = job(tmp_path, latents=tmp_path / "a.npy")
    run(config)
    run(change(config, save_conditions=tmp_path / "c.safetensors"))
    read = change(config, conditions=tmp_path / "c.safetensors", image=None)
    run(change(read, latents=tmp_path / "b.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    with pytest.raises(ValueError, match="made for fps 25.0, not 30.0"):
        run(change(read, fps=30.0))


def test_decode_only(tmp_path):
    config = job(tmp_path, latents=tmp_path / "z.npy")
    run(config)
    again = change(config, decode_only=config.keeping.latents, image=None, output=tmp_path / "again.mp4")
    run(again)
    pairs = zip(media.read_video(config.keeping.output), media.read_video(again.keeping.output), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)
    cut = tmp_path / "cut.npy"
    cut.write_bytes(config.keeping.latents.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="cut short"):
        run(change(again, decode_only=cut, output=tmp_path / "no.mp4"))
    with pytest.raises(ValueError, match="this video has"):
        run(change(again, height=64, output=tmp_path / "no.mp4"))
    assert not (tmp_path / "no.mp4").exists()


def test_an_interrupted_decoding_keeps_what_was_denoised(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    config = job(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(media.VideoWriter, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    assert "the same command goes on with it" in capsys.readouterr().err
    assert not config.keeping.output.exists()
    with monkeypatch.context() as patched:
        patched.setattr(avatar.Encoders, "text", lambda *_: pytest.fail("an encoder ran"))
        run(config)
    assert config.keeping.output.exists()


def test_latents_go_when_the_video_is_whole(tmp_path):
    config = job(tmp_path)
    run(config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.0.wav", "out.mp4", "picture.png"]


def test_from_a_model_directory(tmp_path):
    """The directory's own config.json says what the model is, whatever the preset."""
    folder = tmp_path / "model"
    write_config(folder, FAST.model)
    for name in PARTS:
        _, params = load_part(None, FAST.model, name, seed=0)
        save_params(folder / name, params)
    config = job(tmp_path, latents=tmp_path / "a.npy")
    run(config)
    default = type(FAST)().model
    from_disk = change(
        config, checkpoint=folder, random_weights=False, model=default, latents=tmp_path / "b.npy"
    )
    run(from_disk)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))

    foreign = tmp_path / "foreign"
    write_config(foreign, dataclasses.replace(FAST.model, vae=dataclasses.replace(FAST.model.vae, dim=16)))
    for name in PARTS:
        (foreign / name).symlink_to(folder / name)
    with pytest.raises(ValueError, match=r"vae: these weights and the config do not fit"):
        run(change(from_disk, checkpoint=foreign))


def test_loras_change_the_video_by_their_scales(tmp_path):
    """A LoRA at scale 0, or one taken away again, changes nothing; and one of another model is refused."""
    abstract = abstract_params(part(FAST.model, "dit"))
    tree = lora.init(jax.random.key(0), abstract, lora.LoRAConfig(rank=2))
    noisy = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(1), x.shape), tree)
    save_lora(tmp_path / "a.safetensors", noisy)
    runs = {}
    for name, loras in {"none": (), "zero": ("a:0",), "one": ("a",), "undone": ("a:0.5", "a:-0.5")}.items():
        given = tuple(str(tmp_path / each.replace("a", "a.safetensors", 1)) for each in loras)
        config = job(tmp_path, 0.5, lora=given, latents=tmp_path / f"{name}.npy")
        run(config)
        runs[name] = np.load(config.keeping.latents)
    np.testing.assert_allclose(runs["zero"], runs["none"], atol=1e-5)
    np.testing.assert_allclose(runs["undone"], runs["none"], atol=1e-3)
    assert np.abs(runs["one"] - runs["none"]).max() > 0.01
    other = dataclasses.replace(FAST.model.dit, dim=64, adapter=dataclasses.replace(FAST.model.dit.adapter, dim=64))
    with pytest.raises(ValueError, match="trained on another model"):
        run(change(config, model=dataclasses.replace(FAST.model, dit=other)))


REFUSED = {
    "no checkpoint": (["--no-random-weights"], 1, "--checkpoint is missing"),
    "missing checkpoint": (["--checkpoint", "nowhere"], 1, "nowhere: no such folder; give a model directory"),
    "file as checkpoint": (["--checkpoint", "picture.png"], 1, "is a file, and a folder is needed"),
    "folder as checkpoint": (["--checkpoint", "."], 1, "config.json: no such file; give a model directory"),
    "size": (["--height", "50"], 2, "a multiple of 16 is needed; 48 is the nearest"),
    "overlap": (["--overlap", "1"], 2, "overlap 1 is impossible"),
    "overlap as long as a window": (["--overlap", "21"], 2, "overlap 21 is impossible"),
    "no folder": (["--output", "nowhere/out.mp4"], 1, "there is no folder"),
    "unknown option": (["--stepz", "3"], 2, "--steps"),
    "steps": (["--steps", "0"], 2, "steps is 0"),
    "no picture": (["--image", "nobody.png"], 1, "nobody.png"),
    "no sound": (["--audio", "nothing.wav"], 1, "nothing.wav"),
    "text as sound": (["--audio", "picture.png"], 1, "picture.png"),
    "conditions": (["--conditions", "picture.png"], 1, "picture.png"),
    "lora": (["--lora", "picture.png"], 1, "picture.png"),
    "lora's scale": (["--lora", "a.safetensors:much"], 1, "is not a scale"),
    "lora's scale is not finite": (["--lora", "picture.png:inf"], 1, "is not a scale"),
    "latents": (["--latents", "nowhere/z.npy"], 1, "z.npy"),
    "latents as output": (["--latents", "out.mp4", "--output", "out.mp4"], 1, "two results would be written to it"),
    "latents over the sound": (["--latents", "0.5.wav"], 1, "is an input too"),
    "output over the sound": (["--audio", "talk.mp4", "--output", "talk.mp4"], 1, "is an input too"),
    "output over a link's sound": (["--audio", "link.mp4", "--output", "talk.mp4"], 1, "is an input too"),
    "conditions over the picture": (["--save-conditions", "picture.png"], 1, "is an input too"),
    "conditions in no folder": (["--save-conditions", "nowhere/c.safetensors"], 1, "there is no folder"),
    "conditions in /proc": (["--save-conditions", "/proc/c.safetensors"], 1, "cannot be written"),
    "an address": (["--image", "https://example.org/face.png"], 1, "is an address"),
    "a pipe": (["--audio", "/dev/stdin"], 1, "is a pipe or a device"),
    "another name": (["--guidance-scale", "3"], 2, "did you mean --text-scale"),
    "preset": (["--config", "configs/tinny.py"], 2, "no such preset"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_remedy_and_nothing_left(tmp_path, monkeypatch, capfd, case):
    options, status, words = REFUSED[case]
    picture(tmp_path), recording(tmp_path, 0.5)
    shutil.copy(tmp_path / "0.5.wav", tmp_path / "talk.mp4")
    (tmp_path / "link.mp4").symlink_to("talk.mp4")
    monkeypatch.setattr(avatar.Avatar, "conditions", lambda *_, **__: pytest.fail("an encoder ran"))
    before = sorted(tmp_path.rglob("*"))
    preset = [] if "--config" in options else ["--config", str(Path(__file__).parents[2] / "configs" / "tiny.py")]
    monkeypatch.chdir(tmp_path)
    try:
        ended = main([*preset, "--image", "picture.png", "--audio", "0.5.wav", *options])
    except SystemExit as stopped:
        ended = stopped.code
    said = capfd.readouterr().err
    assert words in said and "Traceback" not in said
    assert ended == status
    assert sorted(tmp_path.rglob("*")) == before


def test_real_portrait_and_speech(shared, tmp_path):
    """A real face and real speech through every encoder, two steps and the decoder."""
    config = change(
        tiny.config,
        image=shared / "data/portraits/photo-woman-02.png",
        audio=shared / "data/audio/speech-en-03.wav",
        output=tmp_path / "talk.mp4",
    )
    run(config)
    info = media.probe(config.keeping.output)
    assert (info.frames, info.height, info.width) == (204, 64, 64)
    first, *_, last = media.read_video(config.keeping.output)
    assert first.std() > 1 and np.abs(first.astype(int) - last).mean() > 0.1
