"""What is shown of a run in TensorBoard and in Weights & Biases."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.training import boards, logs
from stableavatar_jax.training.logs import Log, note

VALUES = {"loss": 0.5, "gradient_norm": 0.1, "seconds": 1.0, "mfu": float("nan")}


@pytest.fixture
def film(tmp_path):
    """A run directory with a validation video and a row of measurements of step 4."""
    (tmp_path / "validation").mkdir()
    with media.VideoWriter(tmp_path / "validation" / "4.mp4", fps=25, height=32, width=512) as video:
        video.write(np.full((150, 32, 512, 3), 200, np.uint8))
    note(tmp_path / "validation.csv", 4, {"probe_r": 0.9})
    return tmp_path


def train(folder):
    log = Log(folder, 0, 4, 2, {"steps": 4})
    for step in range(1, 5):
        log.record(step, VALUES)
    log.validated(4)
    log.close()


def test_tags_are_in_groups():
    assert boards.tagged(VALUES).keys() == {"loss/loss", "optimizer/gradient_norm", "speed/seconds", "speed/mfu"}
    assert boards.tagged({"probe_r": 0.9}, "validation") == {"validation/probe_r": 0.9}


def test_a_run_in_weights_and_biases(film, monkeypatch):
    """A stand-in for the package notes what it is told."""
    told = []
    run = SimpleNamespace(log=lambda values, step: told.append((step, values)), finish=lambda: told.append("end"))
    package = SimpleNamespace(
        init=lambda **options: told.append(options) or run, Video=lambda path, format: path, Error=RuntimeError
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.setattr(boards, "check_boards", lambda: None)
    monkeypatch.setattr(logs, "check_boards", lambda: None)
    monkeypatch.setenv(boards.PROJECT, "avatars")
    train(film)
    train(film)
    first, *shown = told[: len(told) // 2]
    assert first["config"] == {"steps": 4} and first["resume"] == "allow"
    assert first["id"] == told[len(told) // 2]["id"], "the same run when it goes on"
    numbers = {"loss/loss": 0.5, "optimizer/gradient_norm": 0.1, "speed/seconds": 1.0}
    assert shown == [
        (2, numbers), (4, numbers), (4, {"validation/probe_r": 0.9}),
        (4, {"validation/video": str(film / "validation" / "4.mp4")}), "end",
    ]  # fmt: skip


def test_a_board_that_is_not_installed_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv(boards.PROJECT, "avatars")
    monkeypatch.setattr(boards.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Mistake, match=r"pip install -e '.\[wandb\]'"):
        Log(tmp_path / "run", 0, 4, 2)
    assert not (tmp_path / "run").exists()


def test_a_board_that_nobody_is_logged_in_to_is_said_at_once(tmp_path, monkeypatch):
    package = SimpleNamespace(login=lambda: {}["key"], Error=KeyError)
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.setenv(boards.PROJECT, "avatars")
    monkeypatch.setattr(boards.importlib.util, "find_spec", lambda name: package)
    with pytest.raises(Mistake, match="WANDB_MODE=offline keeps the run"):
        Log(tmp_path / "run", 0, 4, 2)


def test_a_moving_picture_is_small(film):
    content, size = boards.moving_picture(film / "validation" / "4.mp4")
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == size == (256, 16) and picture.n_frames <= 100


def test_a_run_in_tensorboard(film):
    pytest.importorskip("tensorboardX", reason="it comes with the extra `training`")
    train(film)
    (events,) = (film / "tensorboard").iterdir()
    content = events.read_bytes()
    for part in (b"loss/loss", b"optimizer/gradient_norm", b"validation/probe_r", b'"steps": 4', b"GIF89a"):
        assert part in content, part
