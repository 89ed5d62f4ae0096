"""Training on clips, encoded on the way, is training on their records."""

import contextlib
import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from stableavatar_jax.data.clips.dataset import BuildConfig, build
from stableavatar_jax.data.config import ClipWindow
from stableavatar_jax.encoding import online as encode
from stableavatar_jax.encoding import precompute
from stableavatar_jax.encoding.precompute import PrecomputeConfig
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import load_preset
from stableavatar_jax.training import loop
from stableavatar_jax.training.directory import settle
from stableavatar_jax.training.logs import read_rows
from stableavatar_jax.training.parts import dit
from tests.data import made
from tests.training import tiny

TINY = Path(__file__).parents[2] / "configs" / "tiny.py"
WINDOW = ClipWindow(frames=5, sizes=((32, 32),))
MODEL = load_preset(TINY, AvatarConfig)


@pytest.fixture(autouse=True)
def one_encoder(encoder, monkeypatch):
    """All tests share an encoder."""
    for module in (encode, precompute):
        monkeypatch.setattr(module, "WindowEncoder", lambda *_, **__: encoder)


@pytest.fixture(scope="module")
def prepared():
    return dit.prepare(config())


def config(**changes):
    return tiny.config(**({"model": MODEL, "window": WINDOW, "steps": 3, "checkpoint_every": 3} | changes))


def clips(folder: Path, frames: int) -> Path:
    for name in ("speech-1.mp4", "singing-2.mp4", "dancing-3.mp4"):
        made.video_clip(folder / "raw" / name, frames)
    build(BuildConfig(source=folder / "raw", output=folder / "clips"))
    return folder / "clips"


def losses(prepared, folder: Path, **changes) -> tuple[list[float], dict]:
    """Loss of every step, and the trained weights; the step is compiled once for all tests."""
    options = config(run_dir=folder, **changes)
    with contextlib.closing(dit.open_data(options)) as batches:
        state = loop.train(dataclasses.replace(prepared, config=settle(options)), batches)
    return [float(row["loss"]) for row in read_rows(folder / "metrics.csv")], state.params


def test_clips_and_records_give_the_same_losses(prepared, tmp_path):
    """Clips as long as a window leave it one place, so that both ways see the same windows in the same order."""
    data = clips(tmp_path, WINDOW.frames)
    online, _ = losses(prepared, tmp_path / "online", clips=data)
    assert len(online) == 3
    for dtype, tolerance in (("float32", 1e-5), ("bfloat16", 2**-8)):
        made_as = {"dtype": dtype, "latents_dtype": dtype, "windows_per_clip": 1}
        records = tmp_path / dtype
        precompute.precompute(PrecomputeConfig(data=data, output=records, config=TINY, window=WINDOW, **made_as))
        stored, _ = losses(prepared, tmp_path / f"run-{dtype}", data=records)
        np.testing.assert_allclose(stored, online, rtol=tolerance, err_msg=dtype)


def test_a_run_on_clips_goes_on(prepared, tmp_path):
    """Windows begin at drawn frames; after a stop they are those of a run that never stopped."""
    data = clips(tmp_path, 12)
    whole, expected = losses(prepared, tmp_path / "whole", clips=data)
    losses(prepared, tmp_path / "parts", clips=data, steps=2)
    parts, found = losses(prepared, tmp_path / "parts", clips=data)
    assert parts == whole
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_what_cannot_be_trained_on(tmp_path):
    for given, told in ({}, "neither is"), ({"data": tmp_path, "clips": tmp_path}, "both are"):
        with pytest.raises(Mistake, match=f"one of --data .* and --clips .* is needed, {told} given"):
            dit.check(config(**given))
    data = clips(tmp_path, 6)
    short = {"clips": data, "window": ClipWindow(frames=9, sizes=WINDOW.sizes)}
    with pytest.raises(Mistake, match="6 frames, a window needs 9"):
        dit.open_data(config(**short))
    with pytest.raises(Mistake, match="no items"):
        dit.open_data(config(**short, on_bad="skip"))
