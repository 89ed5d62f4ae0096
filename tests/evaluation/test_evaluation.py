"""What the judges say of videos whose quality is known."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.configs import tiny
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation import codec, curves, report, video
from stableavatar_jax.evaluation.__main__ import COMMANDS, main
from stableavatar_jax.evaluation.gates import Gate, missed
from stableavatar_jax.sampling.config import change
from stableavatar_jax.world.build import BuildWorldConfig, build_world, wav
from stableavatar_jax.world.draw import Pose, render
from stableavatar_jax.world.known import speaking
from stableavatar_jax.world.listening import from_sound

SECONDS = 2.0


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """Two held-out clips."""
    output = tmp_path_factory.mktemp("held") / "clips"
    build_world(BuildWorldConfig(output=output, characters=2, seconds=SECONDS, split="test", workers=1))
    return output


@pytest.fixture
def perfect(monkeypatch, held):
    """A model that makes the true video of the clip whose first picture it is given."""
    truth = {known.picture.tobytes(): known.frames() for known in speaking(ClipDataset(held), 2)}
    monkeypatch.setattr(video, "talk", lambda config, picture, samples, prompt: truth[picture.tobytes()])


def still(config, picture, samples, prompt):
    """A model that shows the picture and nothing else."""
    return np.repeat(np.asarray(picture)[None], round(SECONDS * 25) + 1, axis=0)


def run(*arguments):
    """The command's status."""
    return main([str(argument) for argument in arguments])


def failed(folder):
    """Measures whose gate was missed."""
    return {gate["measure"] for gate in json.loads((folder / "report.json").read_text())["gates"] if not gate["passed"]}


def test_the_true_video_passes(perfect, held, tmp_path, capsys):
    assert run("talk", "--clips", held, "--output", tmp_path) == 0, capsys.readouterr().out
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["measured"]["r"] > 0.97 and content["measured"]["shut"] == 1 and len(content["rows"]) == 2
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (16 * 96, 4 * 96)
    run("drift", "--seconds", 2, "--stretch", 1, "--output", tmp_path)
    assert failed(tmp_path) <= {"colour_drift"}, "in two seconds a head does not come back to its place"
    assert len(json.loads((tmp_path / "report.json").read_text())["rows"]) == 2


def test_a_still_picture_fails(monkeypatch, held, tmp_path):
    monkeypatch.setattr(video, "talk", still)
    assert run("talk", "--clips", held, "--number", 1, "--output", tmp_path) == 1
    assert {"r", "over_loudness"} <= failed(tmp_path)
    assert run("drift", "--seconds", 2, "--stretch", 1, "--output", tmp_path) == 1
    assert failed(tmp_path) == {"mouth_least", "head_least"}


def test_recordings_are_measured_against_the_rule(monkeypatch, held, tmp_path):
    """A model that moves the mouth as the rule says."""
    known = speaking(ClipDataset(held), 2)[0]
    sound = tmp_path / "speech.wav"
    sound.write_bytes(wav(known.clip.samples))

    def ruled(config, picture, samples, prompt):
        opening = from_sound(samples, round(len(samples) / 640))
        return np.stack([render(known.character, Pose(opening=value)) for value in opening.tolist()])

    monkeypatch.setattr(video, "talk", ruled)
    command = ("talk", "--clips", held, "--recordings", sound, "--seconds", 1, "--output", tmp_path)
    assert run(*command) == 0
    measured = json.loads((tmp_path / "report.json").read_text())["measured"]
    assert measured["rule_r"] > 0.97 and measured["rule_lag"] == 0


def test_the_codec_is_measured_on_clips_of_any_length(monkeypatch, held, tmp_path, capsys):
    """Clips of 2 s have 51 frames, fewer than are looked at by default."""
    monkeypatch.setattr(codec, "load_codec", lambda folder: lambda frames: frames)
    assert run("codec", "--clips", held, "--output", tmp_path) == 0, capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (16 * 96, 4 * 96)
    assert [codec.whole_latents(frames) for frames in (5, 8, 49, 51, 65)] == [5, 5, 49, 49, 65]


def test_clips_in_which_there_is_nothing_to_judge(tmp_path, capsys):
    build_world(BuildWorldConfig(output=tmp_path / "faces", characters=2, seconds=0.0, split="test", workers=1))
    for command in ("talk", "codec"):
        assert run(command, "--clips", tmp_path / "faces", "--output", tmp_path / command) == 1
        assert "error: nobody speaks in 2 clips" in capsys.readouterr().err
        assert not (tmp_path / command).exists()


def test_a_place_that_cannot_be_written_is_seen_before_any_work(held, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for command in (("talk", "--clips", held), ("drift",), ("codec", "--clips", held)):
        assert run(*command, "--output", tmp_path / "file") == 1
        assert "is no folder" in capsys.readouterr().err
    assert run("codec", "--clips", held, "--output", held / "report") == 1
    assert "which is read" in capsys.readouterr().err


def test_the_codec_is_measured(held):
    known = speaking(ClipDataset(held), 2)[0]
    given = known.frames(25)
    whole = codec.measure(given, given, known)
    worse = codec.measure(given // 16 * 16, given, known)
    assert whole["r"] > 0.97 and whole["lip_psnr"] > 90 > worse["lip_psnr"] and worse["psnr"] < 35


def test_the_model_is_run_as_sample_does():
    config = change(tiny.config, height=32, width=32, steps=1, guidance="none")
    frames = video.talk(config, Image.new("RGB", (64, 64), "red"), np.zeros(16000, np.float32), "a red wall")
    assert frames.shape == (25, 32, 32, 3) and frames.dtype == np.uint8


def test_sheet_of_a_video(tmp_path, capsys):
    frames = np.zeros((20, 64, 48, 3), np.uint8)
    frames[10:] = 200
    with media.VideoWriter(tmp_path / "a.mp4", fps=10, height=64, width=48) as video:
        video.write(frames)
    options = ["--columns", "3", "--rows", "2", "--size", "96", "--output", str(tmp_path / "a.png")]
    assert run("sheet", tmp_path / "a.mp4", *options) == 0
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size == (3 * 96, 2 * 2 * 128)
        pixels = np.asarray(sheet)
    assert pixels[80:128].max() < 20 and pixels[256 + 80 :].min() > 180, "dark frames, then light ones"
    assert run("sheet", tmp_path / "a.mp4", "--start", 3, *options) == 1
    assert "it ends after 2.00 s" in capsys.readouterr().err
    assert run("sheet", tmp_path / "a.mp4", *options[:-1], tmp_path / "sheet") == 1
    assert "names no picture format" in capsys.readouterr().err


def test_gates_and_reports(tmp_path, capsys):
    gates = (Gate("r", least=0.7), Gate("lag", most=1))
    assert missed(gates, {"r": 0.7, "lag": 1.0}) == []
    assert missed(gates, {"r": float("nan"), "lag": 2.0}) == ["r", "lag"]
    rows = {"a": {"r": 0.8, "lag": np.nan}, "b": {"r": 0.9, "lag": np.nan}}
    values = report.means(rows)
    assert values["r"] == pytest.approx(0.85) and np.isnan(values["lag"])
    assert report.finish(tmp_path, rows, values, gates, {"steps": 3}, {"sheet": np.zeros((4, 4, 3), np.uint8)}) == 1
    assert json.loads((tmp_path / "report.json").read_text())["rows"]["a"] == {"r": 0.8, "lag": None}
    shown = capsys.readouterr().out
    assert "0.85   at least 0.7    passed" in shown and "nan   at most 1       MISSED" in shown


def test_options_are_read_without_what_takes_long_to_load():
    """A mistyped option is answered before JAX is loaded."""
    rooms = "stableavatar_jax.world.__main__, stableavatar_jax.evaluation.__main__, stableavatar_jax.demo.__main__"
    program = f"import sys, {rooms}; print({{'jax', 'flax', 'transformers', 'av', 'skia'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_every_command_has_its_help():
    for name in COMMANDS:
        assert run(name, "--help") == 0


def test_curves(monkeypatch, tmp_path, capsys):
    lines = (f"{step},{1 / step}," for step in range(1, 60))
    (tmp_path / "metrics.csv").write_text("\n".join(["step,loss,psnr", *lines]))
    table = curves.read_table(tmp_path)
    steps, values = curves.means(table["step"], table["loss"], 25)
    np.testing.assert_array_equal(steps, [30, 59])
    assert values[0] == pytest.approx(np.mean(1 / np.arange(1, 31))) and np.isnan(table["psnr"]).all()
    assert len(curves.means(table["step"], table["psnr"], 25)[0]) == 0
    (tmp_path / "other.csv").write_text("loss\n1\n")
    with pytest.raises(Mistake, match="no rows with a column `step`"):
        curves.read_table(tmp_path / "other.csv")
    (tmp_path / "other.csv").write_bytes(b"step,loss\n1,\xff\n")
    with pytest.raises(Mistake, match="other.csv: no table of numbers"):
        curves.read_table(tmp_path / "other.csv")
    for missing in (tmp_path / "gone", tmp_path / "gone.csv", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert run("curves", missing) == 1 and str(missing) in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("curves", tmp_path) == 1
    assert "pip install -e '.[training]'" in capsys.readouterr().err
