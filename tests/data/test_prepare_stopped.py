"""Processes that prepare clips and end before their time: what is left, and what is told."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from stableavatar_jax.data.clips import prepare, workers
from tests.data import made
from tests.data.preparing import SquareFinder, config, one, rows


class Deadly(SquareFinder):
    """Ends its process at a clip of another height, as a fault in a library would."""

    def follow(self, frames):
        for frame in (first := list(frames))[:1]:
            if frame.shape[0] == 64:
                os.kill(os.getpid(), signal.SIGSEGV)
        yield from super().follow(iter(first))


def begin_deadly(config):
    prepare.FaceFinder, prepare.everyone = Deadly, one
    return prepare._begin(config)


def test_a_clip_that_ends_its_process_is_left_out(tmp_path, finder, monkeypatch):
    for name in ("a", "c"):
        made.video(tmp_path / "raw" / f"{name}.mp4")
    made.video(tmp_path / "raw" / "b.mp4", height=64)
    run = prepare.outcomes
    monkeypatch.setattr(prepare, "outcomes", lambda _, *rest: run(begin_deadly, *rest))
    tally = prepare.prepare(config(tmp_path, workers=2))
    assert (tally.used, dict(tally.refused)) == (2, {"crashed": 1})
    assert "raw/b.mp4: the process that read it ended with signal SIGSEGV" in rows(tmp_path)["b.mp4"]["faults"]
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith((".", "b"))]


class Endless(SquareFinder):
    """Looks at a clip for ever."""

    def follow(self, frames):
        next(frames)
        (Path.cwd() / "begun").touch()
        time.sleep(600)
        yield None


class Deaf:
    """Drops what the first signal raises, as destructors and callbacks of the collector do."""

    def __del__(self):
        (Path.cwd() / "begun").touch()
        time.sleep(600)


class Late(Endless):
    def follow(self, frames):
        next(frames)
        Deaf()
        time.sleep(600)
        yield None


def begin_endless(config):
    prepare.FaceFinder, prepare.everyone = Endless, one
    return prepare._begin(config)


def begin_late(config):
    prepare.FaceFinder, prepare.everyone = Late, one
    return prepare._begin(config)


def test_stopping_leaves_nothing_half_written(tmp_path, monkeypatch):
    """A process that is told to stop removes what it has half written; the first one tells it when it is stopped."""
    made.video(tmp_path / "raw" / "a.mp4")
    monkeypatch.chdir(tmp_path)
    run = prepare.outcomes(begin_endless, config(tmp_path, workers=1), {"a.mp4": tmp_path / "raw" / "a.mp4"}, 1)
    waiting = threading.Thread(target=lambda: list(run))
    waiting.start()
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
    assert (tmp_path / "out" / ".a.wav.part").exists()
    (child,) = multiprocessing.active_children()
    child.terminate()
    waiting.join(30)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_process_that_did_not_get_the_first_signal_gets_another(tmp_path, monkeypatch):
    made.video(tmp_path / "raw" / "a.mp4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "PATIENCE", 2)
    run = prepare.outcomes(begin_late, config(tmp_path, workers=1), {"a.mp4": tmp_path / "raw" / "a.mp4"}, 1)
    monkeypatch.setattr(workers, "wait", stop_when_begun)
    with pytest.raises(KeyboardInterrupt):
        list(run)
    assert list((tmp_path / "out").iterdir()) == []


def stop_when_begun(pipes):
    while not Path("begun").exists():
        time.sleep(0.05)
    raise KeyboardInterrupt
