"""Two processes with four devices each, started as the docs say: they train, end together, and go on elsewhere."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stableavatar_jax.configs import tiny as preset
from stableavatar_jax.data.sources.records import FIELDS, RecordWriter
from tests.training import tiny

ROOT = Path(__file__).parents[2]
HEARTBEAT = 10
STEPS = 3


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    """Precomputed records of the tiny model, of random numbers."""
    folder = tmp_path_factory.mktemp("records")
    dtypes = dict.fromkeys(FIELDS, "float32") | {"text_mask": "bool"}
    with RecordWriter(folder, {"format": "npz", "dtypes": dtypes}) as writer:
        for number in range(4):
            arrays = tiny.batch(number, 1, (3, 6, 6), preset.model.dit)
            writer.write(f"clip {number}", {name: x[0] for name, x in arrays.items()}, {"fps": 25})
    return folder


def command(records: Path, run: Path, **options: Any) -> list[str]:
    given = {"config": "train_tiny", "data": records, "run-dir": run, "checkpoint-every": 2} | options
    flags = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return [sys.executable, "train.py", "--random-weights", *flags]


def started(command: list[str], number: int, port: int, log: Path) -> subprocess.Popen:
    """One of two processes, by hand as docs/pods.md says."""
    told = ["--distributed.coordinator", f"localhost:{port}", "--distributed.processes", "2",
            "--distributed.process", str(number), "--distributed.heartbeat", str(HEARTBEAT)]  # fmt: skip
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4", "PYTHONUNBUFFERED": "1"}
    with log.open("w") as file:
        return subprocess.Popen([*command, *told], cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT)


@pytest.fixture
def children():
    """Processes that a failing test would leave behind."""
    running: list[subprocess.Popen] = []
    yield running
    for process in running:
        process.kill()
        process.wait()


def pair(command: list[str], folder: Path, children: list[subprocess.Popen]) -> list[tuple[subprocess.Popen, Path]]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    logs = [folder / f"{number}.log" for number in range(2)]
    both = [(started(command, number, port, log), log) for number, log in enumerate(logs)]
    children += [process for process, _ in both]
    return both


def until(rows: int, run: Path, processes: list[tuple[subprocess.Popen, Path]]) -> None:
    """Wait until so many steps are logged."""
    for _ in range(3000):
        if (run / "metrics.csv").exists() and len(metrics(run)) >= rows:
            return
        ended = [log.read_text() for process, log in processes if process.poll() is not None]
        assert not ended, "\n".join(ended)
        time.sleep(0.1)
    raise AssertionError("no steps")


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row.get("loss")]


def test_a_death_an_interrupt_and_another_mesh(records, children, tmp_path):
    """One of two is killed, and the other ends; both go on, one is interrupted, and both save; one process goes on on
    another mesh, and has the numbers of one that did it all.
    """
    run, alone = tmp_path / "run", tmp_path / "alone"
    long = command(records, run, steps=1000)

    both = pair(long, tmp_path, children)
    until(3, run, both)
    both[1][0].kill()
    killed = time.monotonic()
    assert both[0][0].wait(3 * HEARTBEAT) == 1
    assert time.monotonic() - killed < HEARTBEAT + 5
    told = both[0][1].read_text()
    assert "has lost another one" in told and "Traceback" not in told, told
    assert "last whole checkpoint is of step" in told and "same command" in told

    both = pair(long, tmp_path, children)
    before = len(metrics(run))
    until(before + 1, run, both)
    both[1][0].send_signal(signal.SIGINT)
    assert [process.wait(60) for process, _ in both] == [143, 143], [log.read_text() for _, log in both]
    assert all("Traceback" not in log.read_text() for _, log in both)
    done = int(metrics(run)[-1]["step"])
    assert (run / "checkpoints" / str(done)).is_dir()

    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    for folder, more in ((run, {"mesh.context": 2}), (alone, {"mesh.fsdp": 1, "mesh.context": 1, "mesh.data": 2})):
        last = command(records, folder, steps=done + STEPS, **more)
        ended = subprocess.run(last, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    ours, theirs = ([float(row["loss"]) for row in metrics(folder)] for folder in (run, alone))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
