"""From raw clips to a video: every command of docs/data.md, docs/training.md and docs/sampling.md, shortened."""

import csv

import pytest

import sample
import train
from stableavatar_jax import media
from stableavatar_jax.checkpoint import load_part, save_params
from stableavatar_jax.config import write_config
from stableavatar_jax.configs import tiny
from stableavatar_jax.data import __main__ as data
from stableavatar_jax.models.avatar import PARTS

CLIPS = ("speech-02.mpg", "speech-05.mpg")


def test_raw_clips_become_a_video(shared, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="the face models run in LiteRT: pip install -e '.[face]'")
    model, raw = tmp_path / "model", tmp_path / "raw"
    write_config(model, tiny.model)  # a model directory of random weights, as an import would make one of real ones
    for name in PARTS:
        save_params(model / name, load_part(None, tiny.model, name)[1])
    raw.mkdir()
    for name in CLIPS:
        (raw / name).symlink_to(shared / "data" / "clips" / name)
    detector, landmarks = (shared / "models" / f"face_{name}.tflite" for name in ("detection_short_range", "landmark"))

    def path(name: str) -> str:
        return str(tmp_path / name)

    data.main(["prepare", "--source", path("raw"), "--output", path("prepared"), "--frames", "9",
               "--detector", str(detector), "--landmarks", str(landmarks)])  # fmt: skip
    data.main(["build", "--source", path("prepared"), "--output", path("clips")])
    data.main(["precompute", "--data", path("clips"), "--output", path("records"), "--checkpoint", path("model"),
               "--frames", "9", "--sizes", "64", "64", "--windows-per-clip", "1"])  # fmt: skip

    picture, sound = shared / "data/portraits/photo-woman-02.png", shared / "data/audio/dialog-a-01.wav"
    options = ["--config", "train_tiny", "--checkpoint", path("model"), "--run-dir", path("run"), "--steps", "3",
               "--mesh.fsdp", "1"]  # fmt: skip
    validation = ["--validate-every", "3", "--validation.image", str(picture), "--validation.audio", str(sound),
                  "--validation.fps", "25", "--validation.steps", "1"]  # fmt: skip
    assert train.main(["--data", path("records"), *options, *validation]) == 0
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    seen = media.probe(tmp_path / "run" / "validation" / "3.mp4")
    assert (seen.frames, seen.height, seen.width, seen.sound) == (45, 64, 64, True)

    assert train.main(["--run-dir", path("run"), "--export", path("trained")]) == 0
    model.rename(tmp_path / "away")  # what was exported needs the start no more, and can itself be moved
    (tmp_path / "trained").rename(tmp_path / "moved")
    made = ["--checkpoint", path("moved"), "--image", str(picture), "--audio", str(sound), "--output", path("talk.mp4")]
    assert sample.main([*made, "--fps", "25", "--steps", "1", "--dtype", "float32"]) == 0
    seen = media.probe(tmp_path / "talk.mp4")
    assert (seen.frames, seen.height, seen.width) == (45, 64, 64)
