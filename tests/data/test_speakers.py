"""Clips with several people in them: who is followed, and whom the masks are for."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.data.clips import prepare
from stableavatar_jax.data.clips.config import Limits, PrepareConfig
from stableavatar_jax.data.clips.faces import Face, FaceFinder
from stableavatar_jax.data.clips.layouts import read_clip
from stableavatar_jax.data.clips.speakers import choose, everyone, read_mask
from stableavatar_jax.errors import Mistake
from tests.data.preparing import rows

SIZE = (60, 120)
"""Rows and columns of the made-up frames."""


def face(x: float, height: float = 20, y: float = 30) -> Face:
    """A face of landmarks in a rectangle around a place."""
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (468, 2)) * (0.8 * height, height) + (x, y)
    points[[10, 152]] = (x, y - height / 2), (x, y + height / 2)
    return Face(0.9, points.astype(np.float32))


class Finder(FaceFinder):
    """Knows the faces of every frame, which are given; the number of a frame is its first pixel."""

    def __init__(self, frames):
        self.frames = frames
        self.looked = 0

    def again(self, picture, last):
        near = [f for f in self.at(picture) if np.linalg.norm(f.middle - last.middle) < 5]
        return near[0] if near else None

    def find_all(self, picture):
        self.looked += 1
        return self.at(picture)

    def at(self, picture):
        return self.frames[picture.getpixel((0, 0))[0]]


def people(frames):
    finder = Finder(frames)
    shown = (np.full((*SIZE, 3), number, np.uint8) for number in range(len(frames)))
    return everyone(finder, shown), finder


def test_everyone_is_followed_from_left_to_right():
    found, finder = people([[face(90 - n), face(30 + n, 12)] for n in range(20)])
    assert [len(each.found) for each in found] == [20, 20] and finder.looked == 1
    assert [each.faces[19].middle[0] for each in found] == pytest.approx([49, 71], abs=1)
    assert choose(found, Path("a"), None, None, SIZE) == 1, "the larger face"


def test_a_face_that_was_lost_comes_back_as_the_same_person():
    gone = [[face(90), face(30)]] * 5 + [[face(90)]] * 5 + [[face(90), face(36)]] * 40
    found, finder = people(gone)
    assert [len(each.found) for each in found] == [50 - 20, 50]  # it comes back when it is looked for, at frame 25
    assert found[0].faces[24] is None and found[0].faces[25] is not None and finder.looked == 3
    alone, finder = people([[face(30)]] * 5 + [[]] * 3 + [[face(100)]] * 5)
    assert [len(each.found) for each in alone] == [10], "the only one may come back anywhere"
    assert finder.looked == 5, "where nobody is, every frame is searched"


def test_who_is_there_for_a_moment_is_not_counted():
    found, _ = people([[face(90), face(30)]] * 2 + [[face(90)]] * 28)
    assert len(found) == 1 and len(found[0].found) == 30
    (nobody,), _ = people([[]] * 3)
    assert nobody.faces == (None,) * 3


def test_the_mean_area_decides_and_not_a_moment():
    found, _ = people([[face(90), face(30, 30)]] * 10 + [[face(90)]] * 70)
    assert len(found) == 2 and choose(found, Path("a"), None, None, SIZE) == 1


def test_a_number_or_a_mask_chooses():
    found, _ = people([[face(90), face(30, 12)]] * 5)
    assert [choose(found, Path("a"), number, None, SIZE) for number in (1, 2)] == [0, 1]
    white = np.zeros((30, 60), bool)  # half the size of the frame
    white[:, :30] = True
    assert choose(found, Path("a"), None, white, SIZE) == 0
    assert choose(found, Path("a"), None, ~white, SIZE) == 1
    with pytest.raises(Mistake, match="a: it shows 2 faces, and --face 3 is asked for"):
        choose(found, Path("a"), 3, None, SIZE)
    with pytest.raises(Mistake, match="a: no face lies in the white of its mask"):
        choose(found, Path("a"), None, white & (np.arange(60) < 5), SIZE)
    with pytest.raises(Mistake, match="it shows 0 faces"):
        choose(people([[]])[0], Path("a"), 1, None, SIZE)


def test_options_that_say_nothing(tmp_path):
    paths = dict.fromkeys(("source", "output", "detector", "landmarks"), tmp_path)
    for options, said in (({"face": 0}, "counted from the left, from 1"), ({"face": 1, "mask": tmp_path}, "give one")):
        with pytest.raises(Mistake, match=said):
            PrepareConfig(**paths, **options)
    Image.new("L", (8, 8), 255).resize((80, 80)).save(tmp_path / "white.png")
    with pytest.raises(Mistake, match="this one has one colour"):
        read_mask(tmp_path / "white.png")


@pytest.fixture(scope="module")
def interview(shared, tmp_path_factory):
    """A second of two real people beside one another, the one on the right larger."""
    pytest.importorskip("ai_edge_litert", reason="the face models run in LiteRT: pip install -e '.[face]'")
    clips = shared / "data" / "clips"
    folder = tmp_path_factory.mktemp("interview")
    (folder / "raw").mkdir()
    with media.VideoWriter(
        folder / "raw" / "speech.mp4", fps=25, height=288, width=612, sound=clips / "speech-03.mpg"
    ) as video:
        both = (media.read_video(clips / f"speech-0{number}.mpg") for number in (1, 3))
        for left, right in islice(zip(*both, strict=True), 25):
            frame = np.zeros((1, 288, 612, 3), np.uint8)
            frame[0, :202, :252] = np.asarray(Image.fromarray(left).resize((252, 202)))
            frame[0, :, 252:] = right
            video.write(frame)
    return folder


@pytest.mark.parametrize(("options", "left"), [({}, False), ({"face": 1}, True), ({"mask": "left.png"}, True)])
def test_two_real_people(shared, interview, tmp_path, caplog, options, left):
    white = Image.new("L", (306, 144))
    white.paste(255, (0, 0, 126, 144))
    white.save(tmp_path / "left.png")
    options = {name: tmp_path / value if name == "mask" else value for name, value in options.items()}
    models = shared / "models"
    config = PrepareConfig(
        source=interview / "raw", output=tmp_path / "out", workers=0, frames=5, limits=Limits(seconds=0.5),
        detector=models / "face_detection_short_range.tflite", landmarks=models / "face_landmark.tflite", **options,
    )  # fmt: skip
    assert prepare.prepare(config).used == 1, rows(tmp_path)
    row = rows(tmp_path)["speech.mp4"]
    assert (row["faces"], row["face"]) == ("2", "1" if left else "2")
    assert ("1 clip shows more than one face (speech.mp4)" in caplog.text) == (not options)
    clip = read_clip(tmp_path / "out" / "speech.mp4", "a", "talking")
    for part in ("face_masks", "lip_masks"):
        columns = np.flatnonzero(np.asarray(clip.mask(part, 12)).any(0))
        assert columns.max() < 252 if left else columns.min() > 252, part
