"""The command that measures any video, and its report."""

import base64
import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.evaluation.__main__ import main
from stableavatar_jax.evaluation.measures import sync
from stableavatar_jax.evaluation.readers import FaceReader
from stableavatar_jax.world.build import make_clip, wav
from stableavatar_jax.world.config import BuildWorldConfig
from stableavatar_jax.world.known import read_known
from stableavatar_jax.world.listening import from_sound

MODELS = ("face_detection_short_range.tflite", "face_landmark.tflite")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A folder with a true video of two seconds, one that is late, their picture and their sound; and the character."""
    folder = tmp_path_factory.mktemp("film")
    known = read_known(make_clip(BuildWorldConfig(output=Path("unused"), characters=2, seconds=2.0, split="test"), 1))
    frames = known.frames()
    (folder / "speech.wav").write_bytes(wav(known.clip.samples))
    known.picture.save(folder / "picture.png")
    for name, shown in (("true", frames), ("late", np.concatenate([frames[:1].repeat(3, 0), frames[:-3]]))):
        with media.VideoWriter(
            folder / f"{name}.mp4", fps=25, height=96, width=96, sound=folder / "speech.wav", crf=10
        ) as video:
            video.write(shown)
    return folder, known.character.seed


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_videos_of_a_character_are_measured_and_reported(film, tmp_path, capsys):
    folder, character = film
    videos = [folder / "true.mp4", folder / "late.mp4"]
    truth = [folder / "true.mp4"] * 2
    status = run(*videos, "--character", character, "--truth", *truth, "--reference", folder / "picture.png",
                 "--windows", 9, 3, "--output", tmp_path)  # fmt: skip
    assert status == 0, capsys.readouterr().err
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert rows["true"]["psnr"] == 100 and rows["true"]["ssim"] == pytest.approx(1) and rows["true"]["r"] > 0.999
    assert rows["late"]["psnr"] < 40 and rows["late"]["lag"] == 3 and rows["late"]["best_r"] > 0.9
    assert 0 < rows["true"]["colour_reference"] < 2.5 and rows["true"]["proportions reference"] < 0.03
    assert {"seam", "sharpness", "frozen", "mouth_moves", "head_moves"} <= rows["true"].keys()
    page = (tmp_path / "report.html").read_text()
    pictures = [base64.b64decode(found) for found in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert len(pictures) == 4 and "http" not in page and "late.sheet" in page and "best_r" in page
    for content in pictures:
        with Image.open(io.BytesIO(content)) as picture:
            assert min(picture.size) > 50
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.html", "report.json", "true.sheet.png", "true.plots.png", "late.sheet.png", "late.plots.png",
    }  # fmt: skip


def test_without_a_reader_colours_and_sharpness_are_measured(film, capsys):
    assert run(film[0] / "true.mp4") == 0
    shown = capsys.readouterr().out
    assert "colour_drift" in shown and "sharpness" in shown and "best_r" not in shown


@pytest.mark.parametrize(("options", "told"), [
    (["--truth", "a.mp4", "b.mp4"], "2 true videos for 1"),
    (["--detector", "a.tflite"], "needed together"),
    (["--identity", "a.dat"], "need --detector"),
    (["--character", "1", "--detector", "a", "--landmarks", "b"], "give one of them"),
])  # fmt: skip
def test_options_that_do_not_go_together(film, options, told, capsys):
    assert run(film[0] / "true.mp4", *options) == 2
    assert told in capsys.readouterr().err


def test_what_cannot_be_measured_is_said(film, tmp_path, capsys):
    folder, character = film
    assert run("nothing.mp4") == 1 and "no such file" in capsys.readouterr().err
    assert run(folder / "speech.wav") == 1 and "no video track" in capsys.readouterr().err
    with media.VideoWriter(tmp_path / "wide.mp4", fps=25, height=64, width=96) as video:
        video.write(np.zeros((30, 64, 96, 3), np.uint8))
    assert run(tmp_path / "wide.mp4", "--character", character) == 1 and "are square" in capsys.readouterr().err
    assert run(tmp_path / "wide.mp4", "--truth", folder / "true.mp4") == 1
    assert "frames of 96x64 and 96x96 pixels" in capsys.readouterr().err
    assert run(folder / "true.mp4", "--output", folder / "true.mp4") == 1
    assert "true.mp4" in capsys.readouterr().err


@pytest.fixture(scope="module")
def talking(shared):
    """Mouths of real clips with their sounds, by name; a clip without sound has None."""
    pytest.importorskip("ai_edge_litert")
    reader = FaceReader(*(shared / "models" / name for name in MODELS))
    found = {}
    names = [f"speech-0{n}.{'mpg' if n < 6 else 'mp4'}" for n in range(1, 9)] + ["silent-01.mp4", "mute-01.mp4"]
    for name in names:
        path: Path = shared / "data" / "clips" / name
        info = media.probe(path)
        faces = reader(itertools.islice(media.read_video(path), 120))
        found[name] = faces, media.read_sound(path) if info.sound else None, info.fps
    return found


def r(faces, samples, fps):
    return sync(faces, from_sound(samples, len(faces.opening), fps))["r"]


def test_real_faces_talk_with_their_own_sound(talking):
    """Six of the eight clips of speech follow their sound; docs/evidence.md tells of the other two."""
    sounds = {name: samples for name, (_, samples, _) in talking.items() if name.startswith("speech")}
    heard = {
        name: {other: r(faces, samples, fps) for other, samples in sounds.items()}
        for name, (faces, _, fps) in talking.items()
    }
    own = {name: heard[name][name] for name in sounds}
    others = {name: np.mean([value for other, value in row.items() if other != name]) for name, row in heard.items()}
    better = [name for name in own if own[name] > others[name]]
    assert len(better) >= 7, f"the right sound beats the others' mean in {len(better)} of {len(own)}"
    silent, mute = talking["silent-01.mp4"], talking["mute-01.mp4"]
    assert r(silent[0], silent[1], silent[2]) == 0, "its sound asks for a shut mouth"
    follow = [name for name, value in own.items() if value > max(0, others["mute-01.mp4"])]
    assert len(follow) >= 6 and mute[1] is None, f"{len(follow)} of {len(own)} beat the silent and the mute clip"
