"""What does not fit is refused before anything is allocated, compiled or written."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.checkpoint import save_params
from stableavatar_jax.config import write_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.training import export as exports
from stableavatar_jax.training import loop, memory, work
from stableavatar_jax.training.__main__ import main
from stableavatar_jax.training.directory import settle
from stableavatar_jax.training.logs import Log
from stableavatar_jax.training.parts import dit
from stableavatar_jax.training.parts.config import TextImageTrainConfig, VAETrainConfig
from stableavatar_jax.training.parts.records import check_records
from stableavatar_jax.training.state import TrainState
from tests.training.runs import records
from tests.training.tiny import MODEL, batch, config


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text": np.zeros((5, 96), np.float32)}, "text has width 96, the model reads 12"),
        ({"audio": np.zeros((17, 9), np.float32)}, "audio has width 9, the model reads 8"),
        ({"image": np.zeros((7, 11), np.float32)}, "image has width 11, the model reads 10"),
        ({"latents_mean": np.zeros((3, 4, 4, 8), np.float32)}, "latents_mean has width 8, the model reads 16"),
        ({"latents_mean": np.zeros((3, 4, 5, 16), np.float32)}, r"latents of \[3, 4, 5\] cannot be cut"),
        ({"text": np.zeros((7, 12), np.float32)}, "text has 7 tokens, the model reads up to 6"),
    ],
)
def test_records_of_another_model(tmp_path, changes, told):
    with pytest.raises(Mistake, match=f"(?s)records are of another model:.*{told}.*give that model with --checkpoint"):
        check_records(records(tmp_path, **changes), MODEL)


def test_records_of_the_model(tmp_path):
    check_records(records(tmp_path), MODEL)
    with pytest.raises(Mistake, match="the picture is followed by `grey`, the model reads `again`"):
        check_records(tmp_path, dataclasses.replace(MODEL, after_picture="again"))


def test_frozen_weights_are_not_random_unless_asked(tmp_path):
    """All that is trained may begin at random; what is frozen, and encoders beside it, may not."""
    here = {"run_dir": tmp_path, "random_weights": False}
    refused = [
        *(config(**here, train=train) for train in ("paper", "release", "adapter", "lora")),
        config(**here, train="all", clips=tmp_path), config(**here, train="all", validate_every=5),
        VAETrainConfig(run_dir=tmp_path, train="decoder"),
    ]  # fmt: skip
    for options in refused:
        with pytest.raises(Mistake, match="--checkpoint is missing: .*--random-weights"):
            settle(options)
        settle(dataclasses.replace(options, random_weights=True))
    for options in (config(**here, train="all"), VAETrainConfig(run_dir=tmp_path), TextImageTrainConfig()):
        settle(options)


def test_weights_of_another_shape(tmp_path):
    write_config(tmp_path / "model", MODEL)
    save_params(tmp_path / "model" / "dit", {"head": np.zeros((2, 2), np.float32)})
    data = records(tmp_path / "records")
    options = settle(config(checkpoint=tmp_path / "model", data=data, run_dir=tmp_path / "run"))
    with pytest.raises(Mistake, match="these weights and the config do not fit together"):
        dit.check(options)
    assert not (tmp_path / "run").exists()


def test_a_picture_and_a_recording_by_the_names_of_their_options(tmp_path):
    options = config(data=records(tmp_path / "records"), validate_every=2)
    with pytest.raises(Mistake, match="--validation.image is missing"):
        dit.check(options)
    shown = dataclasses.replace(options.validation, image=tmp_path / "none.png")
    with pytest.raises(Mistake, match="--validation.image .*none.png: there is no such file"):
        dit.check(dataclasses.replace(options, validation=shown))


def test_more_than_the_memory_there_is(monkeypatch):
    run = dit.prepare(config())
    memory.check_memory(run.abstract, run.devices)
    needed = memory.bytes_each(run.abstract) + memory.bytes_each(run.abstract.params)
    monkeypatch.setattr(memory, "available", lambda devices: needed - 1)
    with pytest.raises(Mistake, match="weights, optimizer and gradients take .* GB on each device"):
        memory.check_memory(run.abstract, run.devices)


def test_the_memory_of_a_container_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    for name, content in ("max", "3000000"), ("current", "2500000"), ("stat", "anon 1\ninactive_file 500000\n"):
        (tmp_path / f"memory.{name}").write_text(content)
    devices = dit.prepare(config()).devices
    assert memory.available(devices) == 1_000_000
    (tmp_path / "memory.max").write_text("max")
    assert memory.available(devices) == 4000 * 1024
    assert memory.available(devices * 2) == 2000 * 1024


@pytest.mark.parametrize("made", ["file", "model", "records"])
def test_a_run_directory_that_is_something_else(tmp_path, made, capsys):
    place = tmp_path / "place"
    if made == "file":
        place.touch()
    elif made == "model":
        write_config(place, MODEL)
    else:
        records(place)
    before = sorted(os.walk(tmp_path))
    data = str(records(tmp_path / "data"))
    (tmp_path / "preset.py").write_text("from tests.training.tiny import config\nconfig = config()\n")
    assert main(["--config", str(tmp_path / "preset.py"), "--data", data, "--run-dir", str(place)]) == 1
    assert str(place) in capsys.readouterr().err
    assert [entry for entry in sorted(os.walk(tmp_path)) if "data" not in entry[0]][1:] == before[1:]


def test_two_runs_in_one_directory(tmp_path, monkeypatch):
    """The second is refused while the first goes on, before it has opened its data."""
    options = config(run_dir=tmp_path / "new" / "run", data=records(tmp_path / "data"))
    with (
        work.one_run(options),
        pytest.raises(Mistake, match=f"run: .*{os.getpid()}.* is writing it"),
        work.one_run(options),
    ):
        pass
    assert not options.run_dir.parent.exists()
    monkeypatch.setattr(work, "space", lambda run: 1 << 60)
    with pytest.raises(Mistake, match="GB are needed there"):
        work.train(options)
    assert not options.run_dir.exists()


def test_export_refuses_before_it_reads(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Mistake, match="no whole checkpoint to export"):
        exports.choose_step(run, "last")
    for step in (3, 12):
        (run / "checkpoints" / str(step)).mkdir(parents=True)
    assert exports.choose_step(run, "last") == 12 and exports.choose_step(run, 3) == 3
    with pytest.raises(Mistake, match="--step 4: .* has checkpoints of steps 3, 12"):
        exports.choose_step(run, 4)
    with pytest.raises(Mistake, match="--step best: there is no best checkpoint"):
        config(export_step="best")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").touch()
    with pytest.raises(Mistake, match="there is something in it, and it is not a model directory"):
        exports.check_model_directory(tmp_path / "letters", ("dit",), run)
    with pytest.raises(Mistake, match="this is a folder of precomputed records"):
        exports.check_model_directory(records(tmp_path / "records"), ("dit",), run)
    with pytest.raises(Mistake, match="run"):
        exports.check_model_directory(run / "model", ("dit",), run)
    start = tmp_path / "start"
    write_config(start, MODEL)
    (start / "dit.safetensors").write_bytes(b"weights")
    with pytest.raises(Mistake, match="lies in .*start, which is read"):
        exports.check_model_directory(start / "dit", ("dit",), run, start)
    with pytest.raises(Mistake, match="has a dit already"):
        exports.check_model_directory(start, ("dit",), run, start)
    exports.check_model_directory(start, ("vae",), run, start)


def test_a_model_directory_can_be_moved(tmp_path):
    """Parts that an export lacks are its own, also where the start had links; nothing needs the start any more."""
    start, output = tmp_path / "start", tmp_path / "far" / "model"
    write_config(start, MODEL)
    save_params(tmp_path / "shared", {"x": np.arange(3.0)})
    (start / "vae").symlink_to(tmp_path / "shared")
    (start / "umt5.safetensors").write_bytes(b"weights")
    (start / "tokenizer.json").write_text("{}")
    (start / "notes.txt").write_text("of the start alone")
    lacking = exports.write_model(output, exports.Exported({"dit": {"y": np.ones(2)}}, MODEL), start)
    assert lacking == ["clip_vision", "wav2vec2"]
    names = {"config.json", "dit", "tokenizer.json", "umt5.safetensors", "vae"}
    assert {path.name for path in output.iterdir()} == names
    start.rename(tmp_path / "gone")
    output.rename(tmp_path / "moved")
    assert not any(path.is_symlink() for path in (tmp_path / "moved").rglob("*"))
    assert (tmp_path / "moved" / "umt5.safetensors").read_bytes() == b"weights"


def test_lines_of_a_log(tmp_path, capsys):
    """In a file: step of total, speed and time left; a step that waited for the compiler does not count."""
    log = Log(tmp_path, 0, 1000, 3)
    for step, seconds in enumerate((40.0, 2.0, 2.0), 1):
        log.record(step, {"loss": 0.5, "seconds": seconds, "waiting_for_input": 0.0})
    log.close()
    assert capsys.readouterr().err.splitlines() == ["step 3 of 1000  loss 0.5  2 s a step, 33 min 14 s left"]


def test_it_says_when_it_compiles(capsys):
    """Once for every shape of a batch."""
    run = dataclasses.replace(dit.prepare(config()), step=jax.jit(lambda state, batch: (state, {})))
    compiled = loop.Compiled(run)
    state = TrainState(step=0, params={}, frozen={}, optimizer=(), ema=None)
    for rows in (1, 1, 2, 1):
        compiled(state, {name: jnp.asarray(x) for name, x in batch(0, rows).items()})
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("compiling")]
    assert told == [
        "compiling the step for latents_mean of 1x3x4x4x16",
        "compiling the step for latents_mean of 2x3x4x4x16 (shape 2 of the data)",
    ]


def test_the_last_line(tmp_path):
    options = config(run_dir=tmp_path, steps=50)
    assert f"{tmp_path}: 50 steps done and saved, 50 of them in 1 min 40 s, 0.5 steps a second." in work.ending(
        options, 50, 50, 100.0
    )
    assert "120 steps done and saved already" in work.ending(options, 120, 0, 1.0)
    assert "no more than 50 were asked for" in work.ending(options, 120, 0, 1.0)
    assert "stopped before 50, the same command goes on" in work.ending(options, 20, 20, 1.0)
