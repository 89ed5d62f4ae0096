"""A model directory says how it is sampled: as its data are, and else as the one that the run began with."""

import dataclasses
import json

import pytest

from stableavatar_jax.config import write_config
from stableavatar_jax.demo import preset
from stableavatar_jax.errors import Mistake
from stableavatar_jax.sampling.__main__ import defaults as sampled_by
from stableavatar_jax.sampling.calibrate import Calibrate
from stableavatar_jax.sampling.config import Denoising, Frame, WindowConfig
from stableavatar_jax.sampling.defaults import DEFAULTS_FILE, of_models
from stableavatar_jax.sampling.inputs import Inputs
from stableavatar_jax.training import defaults
from stableavatar_jax.training import export as exports
from stableavatar_jax.training.config import ValidationConfig
from stableavatar_jax.training.directory import write_own
from stableavatar_jax.training.parts import dit
from stableavatar_jax.training.parts.config import StepConfig
from stableavatar_jax.training.parts.validation import wanted
from tests.training.runs import records
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
    write_config(start, told, DEFAULTS_FILE)
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


def test_the_model_that_comes_with_the_package_is_sampled_as_its_preset_is():
    """With `--checkpoint` alone too; options come on top."""
    alone = ["--checkpoint", str(preset.MODEL)]
    student = [*alone, "--transformer", str(preset.STUDENT)]
    for arguments, wanted_config in ((alone, preset.config), (student, preset.student)):
        given = sampled_by(arguments)
        assert (given.frame, given.denoising) == (wanted_config.frame, wanted_config.denoising)
        for name in ("prompt", "negative_prompt"):
            assert getattr(given.inputs, name) == getattr(wanted_config.inputs, name)
        assert of_models(Calibrate(), arguments) == dataclasses.replace(
            Calibrate(), inputs=given.inputs, frame=given.frame, denoising=given.denoising)


def test_a_validation_is_sampled_as_the_model_is_unless_told(tmp_path):
    """Size, rate, window and shift of the data; the start's other values; and any option that is given."""
    given = ValidationConfig(image=tmp_path / "a.png", audio=tmp_path / "a.wav", w2=7.0, steps=3, width=64, overlap=2)
    options = config(data=records(tmp_path / "records"), validation=given, step=StepConfig(shift=3.0))
    run = dataclasses.replace(dit.prepare(options), sampling=defaults.of_data(options))
    job = wanted(run)
    assert (job.frame.height, job.frame.width, job.frame.fps) == (32, 64, 25.0)
    assert (job.denoising.shift, job.denoising.w1, job.denoising.w2, job.denoising.steps) == (3.0, 3.0, 7.0, 3)
    assert (job.denoising.windows.window, job.denoising.windows.overlap) == (3, 2)
    for fewer, steps in (({}, 20), ({"fewer": {"levels": [1.0, 0.5]}}, 2)):
        told = run.sampling | {"denoising": run.sampling["denoising"] | fewer}
        other = dataclasses.replace(options, validation=dataclasses.replace(given, steps=None))
        assert wanted(dataclasses.replace(run, config=other, sampling=told)).denoising.steps == steps
    assert job.inputs.image == given.image and job.inputs.seed == options.seed and job.weights.random_weights


def test_validation_takes_every_option_of_sampling():
    """All but those that say what is kept, and which weights there are."""
    groups = (Inputs, Frame, Denoising, WindowConfig)
    there = {each.name for group in groups for each in dataclasses.fields(group)} | {"crf"}
    left_out = {"windows", "conditions", "decode_only", "first_fused_step", "rows", "batches", "order", "fewer"}
    assert {each.name for each in dataclasses.fields(ValidationConfig)} == there - left_out


def test_damaged_ones_are_named(tmp_path):
    for text in "{", "[1]":
        (tmp_path / "sampling.json").write_text(text)
        with pytest.raises(Mistake, match="sampling.json: .*write it again"):
            defaults.read(tmp_path)
