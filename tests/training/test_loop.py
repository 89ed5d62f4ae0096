"""A run: it resumes exactly, survives being killed, and says clearly why it stops."""

import contextlib
import csv
import dataclasses
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from stableavatar_jax.checkpoint import load_params
from stableavatar_jax.config import read_config, write_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.avatar import abstract_params, part
from stableavatar_jax.models.config import AvatarConfig, LoRAConfig
from stableavatar_jax.training import loop
from stableavatar_jax.training import state as states
from stableavatar_jax.training.__main__ import main
from stableavatar_jax.training.directory import settle, write_own
from stableavatar_jax.training.logs import Log
from stableavatar_jax.training.parts import dit
from stableavatar_jax.training.saving import Checkpoints, saved_steps
from stableavatar_jax.weights.lora import load_lora
from tests.training.runs import assert_same_run, assert_same_state
from tests.training.tiny import MODEL, Synthetic, config

ROOT = Path(__file__).parents[2]


def train(folder: Path, batches, run=None, **changes):
    """A run of six steps in two parts each; `run` is one prepared before, whose compiled step is used again."""
    begun = {"run_dir": folder, "steps": 6, "checkpoint_every": 3, "accumulate": 2}
    options = settle(config(**(begun | changes)))
    run = dataclasses.replace(run, config=options) if run else dit.prepare(options)
    return loop.train(run, batches)


def latest(folder: Path):
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        return checkpoints.latest


@pytest.fixture(scope="module")
def run():
    return dit.prepare(config(accumulate=2))


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder, Synthetic(), run)


def test_two_halves_equal_the_whole(run, whole, tmp_path):
    folder, state = whole
    train(tmp_path, Synthetic(), run, steps=3)
    again = train(tmp_path, Synthetic(), run)
    assert_same_state(state, again)
    assert_same_run(folder, tmp_path)
    assert latest(tmp_path) == 6


def test_killed_at_random_moments(run, whole, tmp_path):
    """SIGKILL leaves a run that ends as if nothing had been, however often."""
    folder, state = whole
    moments = random.Random(0)
    script = "import tests.training.test_loop as t, sys; t.run_slowly(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(3):
        command = [sys.executable, "-c", script, str(tmp_path)]
        child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        wait_for((tmp_path / "metrics.csv").exists, 60)
        time.sleep(moments.uniform(0.0, 1.2))
        child.kill()
        child.wait()
    done = train(tmp_path, Synthetic(), run)
    assert_same_state(state, done)
    assert_same_run(folder, tmp_path)


def run_slowly(folder: str):
    """The child of the tests above and below: the same run, with time between the steps to be stopped in."""

    class Slow(Synthetic):
        def __next__(self):
            time.sleep(0.2)
            return super().__next__()

    train(Path(folder), Slow())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_stops(run, whole, tmp_path, number):
    """The first one lets the step end and saves."""

    class Told(Synthetic):
        def __next__(self):
            if self.place == 4:
                os.kill(os.getpid(), number)
            return super().__next__()

    stopped = int(train(tmp_path, Told(), run).step)
    assert 0 < stopped < 6 and latest(tmp_path) == stopped
    done = train(tmp_path, Synthetic(), run)
    assert_same_state(whole[1], done)


def test_half_written_checkpoint_is_never_latest(run, tmp_path):
    train(tmp_path, Synthetic(), run, steps=2)
    half = tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "2", half)
    (half / "_CHECKPOINT_METADATA").unlink()
    assert latest(tmp_path) == 2
    assert int(train(tmp_path, Synthetic(), run).step) == 6
    assert not half.exists() and latest(tmp_path) == 6


def test_the_last_ones_are_kept(run, tmp_path):
    train(tmp_path, Synthetic(), run, steps=4, checkpoint_every=1, keep=2)
    assert saved_steps(tmp_path) == [3, 4]


def test_export_is_the_average_of_the_last(tmp_path, capsys):
    """A LoRA run's weights, merged, and its LoRA alone in the release's format; no option of the run is repeated."""
    options = config(run_dir=tmp_path / "run", steps=1, train="lora", lora=LoRAConfig(rank=2))
    state = loop.train(dit.prepare(settle(options)), Synthetic())
    output = tmp_path / "model"
    assert main(["--run-dir", str(options.run_dir), "--export", str(output), "--mesh.fsdp", "1"]) == 0
    told = capsys.readouterr()
    assert "dit of step 1" in told.out and "it has no vae, umt5, clip_vision, wav2vec2" in told.err
    variables = states.join(state.ema, state.frozen)
    params = load_params(output / "dit", abstract_params(part(read_config(output, AvatarConfig), "dit")))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), states.merged(variables), params)
    assert_same_state(load_lora(output / "lora.safetensors"), variables["lora"])
    for more, found in ((), "it has a dit already"), (("--step", "7"), "checkpoints of steps 1; "):
        target = output if not more else tmp_path / "other"
        assert main(["--run-dir", str(options.run_dir), "--export", str(target), *more]) == 1
        assert found in capsys.readouterr().err


def test_loss_that_is_not_finite_stops_the_run(run, tmp_path):
    with pytest.raises(Mistake, match="step 3: loss and gradient_norm not finite"):
        train(tmp_path, Synthetic(broken_at=3), run, checkpoint_every=2)
    assert latest(tmp_path) == 2


class Nothing(Synthetic):
    """Data that end at once."""

    def __next__(self):
        raise StopIteration


def test_another_run_is_refused_once_something_is_saved(run, tmp_path):
    """What a run began with, but saved nothing of, binds nobody; nor is anything left by one that never made a step."""
    begun = {"run_dir": tmp_path}
    with pytest.raises(Mistake, match="the data ended before step 1"):
        train(tmp_path / "none", Nothing(), run)
    assert not (tmp_path / "none").exists()
    write_own(settle(config(**begun)))
    assert settle(config(**begun, train="all")).train == "all"
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    settle(config(**begun, steps=99))
    with pytest.raises(Mistake, match="train was release, now all"):
        settle(config(**begun, train="all"))


def test_a_checkpoint_is_one_by_whatever_path_it_is_reached(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config(Path("model"), MODEL)
    write_own(settle(config(run_dir=tmp_path / "run", checkpoint=Path("model"))))
    (tmp_path / "run" / "checkpoints" / "4").mkdir(parents=True)
    (tmp_path / "link").symlink_to("model")
    for path in (tmp_path / "model", Path("model"), Path("./run/../model"), Path("link")):
        settle(config(run_dir=Path("run"), checkpoint=path))
    write_config(Path("other"), MODEL)
    with pytest.raises(Mistake, match="checkpoint was .*model, now .*other"):
        settle(config(run_dir=Path("run"), checkpoint=Path("other")))


def test_measurements_that_cannot_be_written(run, tmp_path, monkeypatch):
    """One line says what is kept and how to go on; the plot that cannot be drawn then hides nothing."""

    def full(log, step, values):
        if step == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Log, "record", full)
    with pytest.raises(Mistake, match="metrics.csv: cannot be written .*last whole checkpoint is of step 2. Free some"):
        train(tmp_path, Synthetic(), run, checkpoint_every=2)


def test_end_of_data(run, tmp_path):
    class Short(Synthetic):
        def __next__(self):
            if self.place == 2:
                raise StopIteration
            return super().__next__()

    with pytest.raises(Mistake, match="the data ended before step 3"):
        train(tmp_path, Short(), run)


def test_full_disk(tmp_path):
    """A limit on the size of files stands in for a full disk: the error names the checkpoint that is left."""
    script = "import tests.training.test_loop as t, sys; t.run_on_small_disk(sys.argv[1])"
    child = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)},
                           capture_output=True, text=True)
    assert "a checkpoint could not be written" in child.stdout, child.stderr[-2000:]
    assert "the last whole checkpoint is of step 1" in child.stdout
    assert latest(tmp_path) == 1


def run_on_small_disk(folder: str):
    """The child of the test above."""

    class Filling(Synthetic):
        def __next__(self):
            if self.place == 3:
                wait_for((Path(folder) / "checkpoints" / "1").exists, 30)
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            return super().__next__()

    try:
        train(Path(folder), Filling(), steps=8, checkpoint_every=1, keep=9)
    except Mistake as error:
        print(error)


def wait_for(condition, seconds: float):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


def test_metrics_file_is_plain(whole):
    with (whole[0] / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 7))
    assert all(float(row["loss"]) > 0 for row in rows) and float(rows[0]["learning_rate"]) == 0


def test_compile_only_reports_memory():
    """The state's share is what its arrays take; a whole step takes more."""
    options = config(video=(9, 32, 32))
    run = dit.prepare(options)
    memory = dit.compiled_memory(run)
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(run.abstract))
    np.testing.assert_allclose(memory["state"], state / 2**30)
    assert memory["total"] > memory["state"] + memory["batch"] > 0
