"""A run that was interrupted anywhere goes on to the same latents, frames and sound."""

import dataclasses
import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from stableavatar_jax.configs import tiny
from stableavatar_jax.errors import Mistake
from stableavatar_jax.media import Samples, read_video
from stableavatar_jax.sampling import restart
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.sampling.deliver import deliver
from stableavatar_jax.sampling.job import Job
from stableavatar_jax.sampling.progress import Decoded, Denoised, Encoded, Standing
from stableavatar_jax.sampling.restart import resumable, run_folder
from stableavatar_jax.weights.formats.safetensors import write_safetensors
from stableavatar_jax.weights.formats.tensors import lazy

OPTIONS = {
    "height": 32, "width": 32, "steps": 2, "guidance": "none", "window": 5, "overlap": 2, "batches": 1, "seed": 3,
    "dtype": "float32", "random_weights": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def avatar():
    return Avatar(tiny.model, dtype="float32", keep=True)


@pytest.fixture(scope="module", params=["plain", "wavefront"])
def given(request, tmp_path_factory):
    """Options and job of 2.4 s: 60 frames, so two segments, of which the second is shorter."""
    from scipy.io import wavfile

    folder = tmp_path_factory.mktemp(request.param)
    samples = np.random.default_rng(0).normal(size=38400).astype(np.float32) / 8
    wavfile.write(folder / "speech.wav", 16000, samples)
    config = change(tiny.config, **OPTIONS, order=request.param, audio=folder / "speech.wav", latents=folder / "z.npy")
    job = Job(
        sound=Samples(samples), picture=Image.radial_gradient("L").convert("RGB"), prompt="a wall", seed=3,
        frame=config.frame, denoising=config.denoising,
    )  # fmt: skip
    return config, job


@pytest.fixture(scope="module")
def whole(given, avatar):
    """The latents and the bytes of the video of a run that was never interrupted."""
    config, job = given
    output = config.inputs.audio.parent / "whole.mp4"
    deliver(change(config, output=output), job, avatar)
    latents = np.load(config.keeping.latents)
    config.keeping.latents.unlink()
    assert sorted(path.name for path in output.parent.iterdir()) == ["speech.wav", "whole.mp4"]
    assert latents.shape == (16, 4, 4, 16) and sum(1 for _ in read_video(output)) == 60
    return latents, output.read_bytes()


def test_goes_on_to_the_same_video(given, whole, avatar, tmp_path, monkeypatch, capsys):
    """Interrupted again and again, each time some events later, now and then with a state on disk that is older."""
    config, job = given
    config = change(config, output=tmp_path / "talk.mp4", latents=tmp_path / "z.npy")
    latents, video = whole
    rounds = 0
    for rounds in range(1, 40):
        left = 3 + 2 * rounds
        monkeypatch.setattr(restart, "SAVE_EVERY", [1e9, 0][rounds % 2])
        if rounds % 3 == 0:
            monkeypatch.setattr(restart.Run, "save", lambda self: None)  # as a killed process

        def tell(event):
            nonlocal left
            left -= not isinstance(event, (Encoded, Standing))
            if left == 0:
                raise KeyboardInterrupt

        try:
            deliver(config, job, avatar, tell)
            break
        except KeyboardInterrupt:
            monkeypatch.undo()
            assert run_folder(config.keeping.output).is_dir()
    assert 3 < rounds < 39
    assert_array_equal(np.load(tmp_path / "z.npy"), latents)
    assert (tmp_path / "talk.mp4").read_bytes() == video
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.mp4", "z.npy"]
    assert "the same command goes on with it" in capsys.readouterr().err


def test_a_state_saves_the_work_behind_it(given, avatar, tmp_path):
    config, job = given
    config = change(config, output=tmp_path / "talk.mp4", latents=None)
    done = []

    def stop(event):
        done.extend([event.done] if isinstance(event, Denoised) else [])
        if isinstance(event, Denoised) and event.done > event.of / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deliver(config, job, avatar, stop)
    before = len(done)
    deliver(config, job, avatar, lambda event: done.extend([event.done] if isinstance(event, Denoised) else []))
    assert done[before] > done[0] and len(done) - before <= before


def test_other_options_are_refused_by_name(given, avatar, tmp_path):
    config, job = given
    config = change(config, output=tmp_path / "talk.mp4", latents=None)

    def stop(event):
        if isinstance(event, Decoded) or isinstance(event, Denoised) and event.done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deliver(config, job, avatar, stop)
    for options, names in (
        ({"seed": 4}, "--seed"),
        ({"steps": 3, "shift": 4.0}, "--shift, --steps"),
        ({"latents": tmp_path / "z.npy"}, "--latents"),  # what was finished before would be missing
    ):
        with pytest.raises(Mistake, match=f"began with another {names}; give the options it began with, or --restart"):
            deliver(change(config, **options), job, avatar)
    run = resumable(tmp_path / "talk.mp4", restart.identity(config), stride=3, reach=38, at_once=1)
    with run, pytest.raises(Mistake, match="process .* is writing it"):
        deliver(config, job, avatar)


def test_options_are_told_apart_by_what_is_in_the_files(tmp_path):
    config = change(SampleConfig(), image=tmp_path / "a.png", checkpoint=tmp_path / "model")
    (tmp_path / "model").mkdir()
    for path in (tmp_path / "a.png", tmp_path / "model" / "config.json"):
        path.write_text("a")
    one = restart.identity(config)
    assert one == restart.identity(change(config, output=tmp_path / "b.mp4", restart=True))
    json.dumps(one)
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert restart.identity(change(config, image=tmp_path / "b.png")) == one
    (tmp_path / "b.png").write_text("b")
    two = restart.identity(change(config, image=tmp_path / "b.png"))
    assert {name for name in one if one[name] != two[name]} == {"image"}
    (tmp_path / "model" / "config.json").write_text("ab")
    assert restart.identity(config)["checkpoint"] != one["checkpoint"]


def test_what_failed_before_there_was_anything_leaves_nothing(given, avatar, tmp_path):
    config, job = given
    config = change(config, output=tmp_path / "talk.mp4", latents=None)
    broken = dataclasses.replace(job, picture=None)
    with pytest.raises(Mistake, match="a picture is needed"):
        deliver(config, broken, avatar)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_the_first_stride_fills_a_segment(tmp_path, at_once):
    """So window 0 can be played when K S (S-1) / 2 + S windows have been evaluated (`test_order`)."""
    made = 1 + 4 * (at_once * ((11 - 1) // at_once))
    run = restart.Run(tmp_path, stride=11, reach=38, at_once=at_once)
    assert 32 <= run.segment <= made and run.segment % (4 * at_once) == 0


@pytest.mark.parametrize("damage", ["no run.json", "broken run.json", "cut state", "state of another version"])
def test_a_damaged_run_is_named(tmp_path, damage):
    output, options = tmp_path / "talk.mp4", {"seed": 1}
    folder = run_folder(output)
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(options))
    state = {name: lazy(np.zeros((2, 2, 2, 1), np.float32)) for name in ("z", "recent")}
    write_safetensors(folder / "state.safetensors", state, {"place": '{"step": 3}', "begin": "0"})
    with resumable(output, options, stride=3, reach=1, at_once=1) as run:
        assert run.state.place == {"step": 3}
    assert not folder.exists()
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(options))
    about = {"place": '{"step": 3}'} | ({} if "version" in damage else {"begin": "0"})
    write_safetensors(folder / "state.safetensors", state, about)
    if damage == "no run.json":
        (folder / "run.json").unlink()
    elif damage == "broken run.json":
        (folder / "run.json").write_text("{")
    elif damage == "cut state":
        (folder / "state.safetensors").write_bytes((folder / "state.safetensors").read_bytes()[:-9])
    before = sorted(folder.iterdir())
    with (
        pytest.raises(Mistake, match="talk.mp4: its run in .* is damaged, or of another version .*--restart begins"),
        resumable(output, options, stride=3, reach=1, at_once=1),
    ):
        pass
    assert sorted(folder.iterdir()) == before
    restart.discard(output)
    with resumable(output, options, stride=3, reach=1, at_once=1) as run:
        assert run.state is None


def test_damaged_conditions_are_made_again(tmp_path, capsys):
    with resumable(tmp_path / "talk.mp4", {}, stride=3, reach=1, at_once=1) as run:
        (run.folder / "conditions.safetensors").write_bytes(b"cut off")
        assert run.conditions() is None
    assert "the encoders run again" in capsys.readouterr().err
