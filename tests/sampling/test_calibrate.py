"""A step cache from the command that measures it to the video that leaves steps out."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from stableavatar_jax.configs import tiny
from stableavatar_jax.errors import Mistake
from stableavatar_jax.sampling.__main__ import main as sample
from stableavatar_jax.sampling.calibrate import main as calibrate
from stableavatar_jax.sampling.calibration import check, read_calibration
from stableavatar_jax.sampling.config import change

OPTIONS = {
    "height": 32, "width": 32, "steps": 10, "w1": 0.5, "w2": 0.0, "window": 5, "overlap": 2, "batches": 1,
    "dtype": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    Image.radial_gradient("L").convert("RGB").save(folder / "face.png")
    for name, seconds in (("a.wav", 2.0), ("b.wav", 0.3)):
        noise = np.random.default_rng(len(name)).normal(size=round(16000 * seconds)) / 8
        wavfile.write(folder / name, 16000, noise.astype(np.float32))
    return folder


def arguments(folder, *more):
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    return ["--config", "tiny", *options, "--image", str(folder / "face.png"), "--audio", str(folder / "a.wav"), *more]


@pytest.fixture(scope="module")
def cache(files):
    path = files / "cache.json"
    more = ["--random-weights", "--seconds=1.0", f"--recordings={files / 'b.wav'}", f"--output={path}"]
    assert calibrate(arguments(files, *more)) == 0
    return path


def test_what_is_measured(cache):
    found = read_calibration(cache)
    assert found.ratios.keys() == {"prompt, sound", "prompt, silence"}
    for ratios in found.ratios.values():
        assert len(ratios) == 10 and ratios[0] == 1 and min(ratios) > 0 and 0 < np.ptp(ratios) < 1
    assert found.valid_for["steps"] == 10 and len(found.valid_for["weights"]) == 32


def test_another_use_is_refused_by_name(cache, files):
    config = change(tiny.config, **OPTIONS, cache=cache)
    check(config.denoising, config.frame)
    check(config.denoising, config.frame, read_calibration(cache).valid_for["weights"])
    for options, message in (
        ({"steps": 12}, "for --steps 10, not 12; calibrate again"),
        ({"solver": "unipc"}, "for --solver euler, not unipc"),
        ({"shift": 3.0}, "for --shift 5.0, not 3.0"),
        ({"width": 48}, "for --width 32, not 48"),
        ({"window": 7}, "for --window 5, not 7"),
        ({"w1": 0.75}, "for --w1 0.5, not 0.75"),
        ({"guidance": "cfg"}, "for --guidance audio_native, not cfg"),
    ):
        other = change(config, **options)
        with pytest.raises(Mistake, match=message):
            check(other.denoising, other.frame)
    with pytest.raises(Mistake, match="for other weights"):
        check(config.denoising, config.frame, "0" * 32)
    with pytest.raises(Mistake, match="--steps 10, not 20"):
        change(config, steps=20).denoising.schedule()
    with pytest.raises(Mistake, match="without the branch 'negative, dropped'"):
        change(config, guidance="cfg").denoising.schedule()
    for text, message in (("{", "no calibration"), (json.dumps({"valid_for": {"steps": 3}, "ratios": {"a": [1.0]}}),
                                                    "3 finite ratios above 0")):  # fmt: skip
        (files / "bad.json").write_text(text)
        with pytest.raises(Mistake, match=message):
            read_calibration(files / "bad.json")


def test_a_video_leaves_steps_out(cache, files, capsys):
    """The plan says so, and the sampler refuses the file for other weights."""
    more = ["--random-weights", f"--cache={cache}", "--cache-threshold=9", f"--output={files / 'talk.mp4'}"]
    assert sample(arguments(files, *more)) == 0
    told = capsys.readouterr().out
    # Of eight steps from the third on two of three are left out, the last two as well.
    assert "(4 steps x 2 branches; blocks left out at 6 steps), 60% fewer" in told, told
    assert "kept for later steps" in told and (files / "talk.mp4").is_file()
    assert sample(arguments(files, *more, "--seed=1")) == 1
    assert "calibrated for other weights" in capsys.readouterr().err


def test_a_calibration_is_made_from_recordings(files, capsys):
    assert calibrate(arguments(files, "--random-weights", f"--output={files / 'cache.mp4'}")) == 1
    assert "--output is a .json file" in capsys.readouterr().err
    assert dataclasses.is_dataclass(tiny.config)
