"""The one way from a job to a video: whoever takes it is told of a velocity that is not finite."""

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from stableavatar_jax.configs import tiny
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation.video import talk
from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.media import Samples
from stableavatar_jax.models.avatar import part
from stableavatar_jax.sampling import denoiser as denoisers
from stableavatar_jax.sampling.__main__ import main
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.config import Denoising, Frame, change
from stableavatar_jax.sampling.job import Job
from stableavatar_jax.sampling.program import without_memory
from stableavatar_jax.sampling.progress import Decoded, Denoised, Encoding, Finished, Rough, Standing
from stableavatar_jax.sampling.video import frames
from stableavatar_jax.sharding import make_mesh
from stableavatar_jax.training.config import ValidationConfig
from stableavatar_jax.training.parts import validation
from stableavatar_jax.training.run import Run
from stableavatar_jax.training.state import TrainState
from tests.params import random_params
from tests.training.tiny import config as training

FAST = {"height": 32, "width": 32, "steps": 1, "guidance": "none", "window": 3, "overlap": 0, "batches": 1}
SAMPLES = np.zeros(4000, np.float32)


@pytest.fixture
def broken(monkeypatch):
    """A transformer whose velocity is not finite; its loops are compiled for it alone."""
    denoisers.denoiser.cache_clear()
    monkeypatch.setattr(denoisers, "make_velocity", lambda *_: without_memory(lambda shared, own, z, t: z * np.nan))
    yield
    denoisers.denoiser.cache_clear()


@pytest.fixture
def files(tmp_path):
    Image.new("RGB", (80, 70), "red").save(tmp_path / "face.png")
    wavfile.write(tmp_path / "speech.wav", 16000, SAMPLES)
    return tmp_path


def test_from_the_command_line(broken, files, capsys):
    options = [f"--{name}={value}" for name, value in FAST.items()]
    given = ["--image", str(files / "face.png"), "--audio", str(files / "speech.wav"), "--output", str(files / "a.mp4")]
    assert main(["--config", "tiny", *options, *given]) == 1
    assert "error: step 1 gave numbers that are not finite" in capsys.readouterr().err
    assert sorted(path.name for path in files.iterdir()) == ["face.png", "speech.wav"]


def test_from_a_measurement(broken):
    with pytest.raises(Mistake, match="step 1 gave numbers that are not finite"):
        talk(change(tiny.config, **FAST), Image.new("RGB", (80, 70)), SAMPLES, "a wall")


def test_from_validation(broken, files, monkeypatch):
    quick = {name: value for name, value in FAST.items() if name != "batches"}
    shown = ValidationConfig(image=files / "face.png", audio=files / "speech.wav", **quick)
    config = training(model=tiny.model, run_dir=files / "run", validation=shown)
    run = object.__new__(Run)  # of which validation looks at three values
    run.__dict__.update(config=config, sampling={}, mesh=make_mesh(MeshConfig(), jax.devices()[:1]))
    params = random_params(part(tiny.model, "dit"))
    monkeypatch.setattr(validation, "merged", lambda variables: params)
    monkeypatch.setattr(validation, "join", lambda params, frozen: params)
    validate = validation.make_validate(run)
    with pytest.raises(Mistake, match="step 1 gave numbers that are not finite"):
        validate(7, TrainState(step=7, params={}, frozen={}, optimizer=(), ema=None))
    assert not list((files / "run").rglob("*.mp4"))


def test_events_come_in_the_order_of_the_work():
    windows = change(tiny.config, **FAST).denoising.windows
    job = Job(
        sound=Samples(SAMPLES), picture=Image.new("RGB", (80, 70)), prompt="a wall", frame=Frame(height=32, width=32),
        denoising=Denoising(steps=1, guidance="none", windows=windows),
    )  # fmt: skip
    told = []
    blocks = list(frames(job, Avatar(tiny.model, dtype="float32"), tell=told.append))
    assert sum(map(len, blocks)) == 7
    kinds = [type(event) for event in told if not isinstance(event, (Rough, Standing))]
    assert kinds == sorted(kinds, key=[Encoding, Denoised, Finished, Decoded].index)
    assert [event.part for event in told if isinstance(event, Encoding)] == ["umt5", "clip_vision", "vae", "wav2vec2"]
    assert sum(len(event.z) for event in told if isinstance(event, Finished)) == 3
    assert told[-1] == Decoded(7, 7)
