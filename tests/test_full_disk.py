"""Whatever writes a file: a full disk is one line with the file's name, and nothing half-written stays."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from stableavatar_jax import media
from stableavatar_jax.checkpoint import save_params
from stableavatar_jax.config import write_config
from stableavatar_jax.data.clips.config import BuildConfig
from stableavatar_jax.data.clips.dataset import build
from stableavatar_jax.data.clips.report import write_reports
from stableavatar_jax.data.sources.records import FIELDS, RecordWriter
from stableavatar_jax.demo.bundle import write_flac
from stableavatar_jax.encoding.conditions import Conditions, save_conditions
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation import curves
from stableavatar_jax.evaluation.config_pictures import Curves
from stableavatar_jax.evaluation.report import finish
from stableavatar_jax.training.logs import note
from stableavatar_jax.weights.directory import write_part
from stableavatar_jax.weights.formats.tensors import lazy
from tests.data import made
from tests.disk import small_disk

NOISE = np.random.default_rng(0).standard_normal((8, 64, 64, 3)).astype(np.float32)
MANY = {f"measure{number}": float(number) for number in range(300)}


def conditions(path: Path) -> None:
    mask = np.ones(NOISE.shape[1:3], bool)
    made_of = Conditions(text=NOISE[0], text_mask=mask, image=NOISE[0, 0], reference=NOISE[:4], audio=NOISE[0])
    save_conditions(path, made_of, {"fps": 25})


def records(path: Path, form: str) -> None:
    meta = {"format": form, "dtypes": dict.fromkeys(FIELDS, "float32")}
    with RecordWriter(path, meta, shard=1) as file:
        file.write("a", dict.fromkeys(FIELDS, NOISE), {})


def clips(path: Path, place: Path) -> None:
    build(BuildConfig(source=place / "raw", output=path))


def drawn(path: Path, place: Path) -> None:
    pytest.importorskip("matplotlib")
    curves.draw(Curves(runs=(place / "run.csv",), output=path))


def reports(path: Path) -> None:
    write_reports(path.parent, {f"speech-{number}.mp4": {"faults": "too short"} for number in range(99)})


READERS: dict[str, Callable[[Path, Path], object]] = {"clips": clips, "curves.png": drawn}
"""Writers that read something too."""
WRITERS: dict[str, Callable[[Path], object]] = {
    "conditions.safetensors": conditions,
    "npz": partial(records, form="npz"),
    "array_record": partial(records, form="array_record"),
    "report.csv": reports,
    "report.json": lambda path: finish(path.parent, {"a": MANY}, MANY, (), {}, {}),
    "validation.csv": lambda path: note(path, 1, MANY),
    "config.json": lambda path: write_config(path.parent, MANY),
    "checkpoint": lambda path: save_params(path, {"kernel": NOISE}),
    "part.safetensors": lambda path: write_part(path.with_suffix(""), {"kernel": lazy(NOISE)}),
    "face.png": lambda path: media.write_picture(path, (NOISE[0] * 99).astype(np.uint8)),
    "speech.flac": lambda path: write_flac(path, NOISE.ravel()),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What some of the writers read."""
    place = tmp_path_factory.mktemp("disk")
    made.video_clip(place / "raw" / "speech.mp4")
    (place / "run.csv").write_text("step,loss\n1,2.0\n2,1.0\n")
    return place


def write(name: str, path: Path, place: Path) -> None:
    READERS[name](path, place) if name in READERS else WRITERS[name](path)


@pytest.mark.parametrize("name", [*WRITERS, *READERS])
def test_a_full_disk_is_named_and_leaves_nothing(place, name, tmp_path):
    path = tmp_path / "out" / name
    path.parent.mkdir()
    with small_disk(), pytest.raises(Mistake, match="cannot be written") as found:
        write(name, path, place)
    assert str(path) in str(found.value) and "; " in str(found.value)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("name", [*WRITERS, *READERS])
def test_with_room_it_is_written(place, name, tmp_path):
    """Or the test above would show nothing."""
    path = tmp_path / name
    write(name, path, place)
    assert path.exists()
