"""A model directory says how it is sampled: as its data are, and else as the one that the run began with."""

import json

import pytest

from stableavatar_jax.config import write_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.training import defaults
from stableavatar_jax.training import export as exports
from stableavatar_jax.training.directory import write_own
from stableavatar_jax.training.parts.config import StepConfig
from tests.training.test_refused import records
from tests.training.tiny import MODEL, config


def test_of_records(tmp_path):
    """The latents of the tiny records are 3 x 4 x 4, a window of 9 frames of 32 x 32."""
    options = config(data=records(tmp_path / "records"), step=StepConfig(shift=3.0))
    assert defaults.of_data(options) == {
        "frame": {"height": 32, "width": 32, "fps": 25.0},
        "denoising": {"windows": {"window": 3, "overlap": 0}, "shift": 3.0},
    }


def test_the_rest_is_as_the_start_says(tmp_path):
    start = tmp_path / "start"
    frame, denoising = {"enlarge": 4, "height": 96}, {"w1": 0.5, "windows": {"overlap": 2}}
    told = {"prompt": "A fox", "frame": frame, "denoising": denoising}
    write_config(start, told, defaults.FILE)
    options = config(data=records(tmp_path / "records"), checkpoint=start, run_dir=tmp_path / "run")
    found = defaults.of_data(options)
    assert found["prompt"] == "A fox" and found["frame"]["enlarge"] == 4 and found["frame"]["height"] == 32
    assert found["denoising"]["w1"] == 0.5 and found["denoising"]["windows"] == {"overlap": 0, "window": 3}
    write_own(options, found)
    assert defaults.read(options.run_dir) == found
    exports.write_model(tmp_path / "model", exports.Exported({}, MODEL), None, defaults.read(options.run_dir))
    assert json.loads((tmp_path / "model" / "sampling.json").read_text()) == found
    write_config(start, MODEL)
    exports.write_model(tmp_path / "part", exports.Exported({}, MODEL), start)
    assert defaults.read(tmp_path / "part") == told


def test_damaged_ones_are_named(tmp_path):
    for text in "{", "[1]":
        (tmp_path / "sampling.json").write_text(text)
        with pytest.raises(Mistake, match="sampling.json: .*write it again"):
            defaults.read(tmp_path)
