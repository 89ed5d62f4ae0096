"""Preparing raw clips, with a made-up face finder, and with the real one where it is at hand."""

import contextlib
import csv
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
import zipfile
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.data.__main__ import main
from stableavatar_jax.data.clips import faces, prepare, quality, report, workers
from stableavatar_jax.data.clips.config import Limits, PrepareConfig
from stableavatar_jax.data.clips.faces import Face
from stableavatar_jax.data.clips.layouts import named_clips, read_clip
from stableavatar_jax.data.clips.speakers import Person
from stableavatar_jax.errors import Mistake
from stableavatar_jax.locks import alone
from tests.data import made
from tests.media.test_video import coded

EASY = Limits(seconds=0.1)


class SquareFinder(faces.FaceFinder):
    """Takes the made clips' square for a face whose lips open and close."""

    seen = 0

    def __init__(self, detector, landmarks):
        pass

    def follow(self, frames):
        for i, _ in enumerate(frames):
            SquareFinder.seen += 1
            points = np.random.default_rng(0).uniform((20 + i % 16, 16), (36 + i % 16, 32), (468, 2)).astype(np.float32)
            points[[faces.FOREHEAD, faces.CHIN]] = (28, 16), (28, 32)
            points[list(faces.MOUTH)] = (28, 26), (28, 27 + i % 3)
            yield Face(0.9, points)


def one(finder, frames):
    """The one face that the made clips have."""
    return [Person(tuple(finder.follow(frames)))]


@pytest.fixture
def finder(monkeypatch):
    SquareFinder.seen = 0
    monkeypatch.setattr(prepare, "FaceFinder", SquareFinder)
    monkeypatch.setattr(prepare, "everyone", one)


def config(tmp_path, **options) -> PrepareConfig:
    paths = {"source": tmp_path / "raw", "output": tmp_path / "out", "detector": Path("d"), "landmarks": Path("l")}
    return PrepareConfig(**{**paths, "workers": 0, "frames": 5, "limits": EASY, **options})


def rows(tmp_path) -> dict[str, dict]:
    with (tmp_path / "out" / "report.csv").open() as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_prepared_clips_are_read(tmp_path, finder):
    made.video(tmp_path / "raw" / "a" / "speech-1.mp4")
    assert str(prepare.prepare(config(tmp_path))) == "0 clips left out"
    ((name, path),) = named_clips(tmp_path / "out").items()
    clip = read_clip(path, name, "talking")
    clip.check()
    clip.check_masks()
    for part in ("face_masks", "lip_masks"):
        pixels = np.asarray(clip.mask(part, 3))
        assert pixels.shape == (48, 64) and set(np.unique(pixels)) == {0, 255}
        assert pixels[16:32].sum() == pytest.approx(pixels.sum(), rel=0.3)
    row = rows(tmp_path)["a/speech-1.mp4"]
    assert (row["kept"], row["frames"], row["face_found"], row["cuts"]) == ("True", "20", "1.0", "0")
    assert float(row["mouth"]) > 0.01 and float(row["loudness"]) == pytest.approx(-13.5, abs=1)


def test_it_goes_on_where_it_was_stopped(tmp_path, finder):
    for name in ("speech-1", "speech-2"):
        made.video(tmp_path / "raw" / f"{name}.mp4")
    prepare.prepare(config(tmp_path))
    (tmp_path / "out" / "speech-2.quality.json").unlink()  # it is written last
    (tmp_path / "out" / ".speech-2.mp4.part").write_bytes(b"left by a run that was killed")
    assert SquareFinder.seen == 40
    prepare.prepare(config(tmp_path))
    assert SquareFinder.seen == 60
    assert not list((tmp_path / "out").glob(".*"))
    prepare.prepare(config(tmp_path, limits=Limits()))  # other limits need no new faces
    assert SquareFinder.seen == 60
    assert "0.80 s short" in rows(tmp_path)["speech-1.mp4"]["faults"]


def test_bad_clips_are_reported(tmp_path, finder):
    made.video(tmp_path / "raw" / "speech-1.mp4")
    made.video(tmp_path / "raw" / "speech-2.mp4").write_bytes(b"cut off" * 50)
    tally = prepare.prepare(config(tmp_path))
    assert dict(tally.refused) == {"damaged": 1}
    row = rows(tmp_path)["speech-2.mp4"]
    assert row["kept"] == "False" and "cannot be opened" in row["faults"]
    assert (tmp_path / "out" / "clips.txt").read_text() == "speech-1.mp4\n"
    with pytest.raises(Mistake, match="speech-2.mp4"):
        prepare.prepare(config(tmp_path, on_bad="error"))


def test_clips_shorter_than_a_window_are_told_which_window_takes_them(tmp_path, finder, caplog):
    for name, count in (("speech-1", 20), ("speech-2", 11)):
        made.video(tmp_path / "raw" / f"{name}.mp4", count)
    assert prepare.prepare(config(tmp_path, frames=81)).used == 0
    assert "2 clips are shorter than a training window of 81 frames" in caplog.text and "--frames 17" in caplog.text
    tally = prepare.prepare(config(tmp_path, frames=17))
    assert (tally.used, str(tally)) == (1, "1 clip left out (1 beyond the limits)")


def test_the_room_it_needs_is_looked_for_before_the_work(tmp_path, finder, monkeypatch):
    """Sound and masks of a clip that keeps its frames, and the clip itself where it is encoded again."""
    path = made.video(tmp_path / "raw" / "speech-1.mp4")
    linked, again = (report.needed(config(tmp_path, fps=fps), {path: "speech-1.mp4"}) for fps in (None, 20.0))
    assert linked == pytest.approx(0.8 * report.BESIDE, rel=0.1) and again == linked + path.stat().st_size
    free = lambda folder: SimpleNamespace(free=1000)  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", free)
    with pytest.raises(Mistake, match="are needed there, 1.0 kB are free"):
        prepare.prepare(config(tmp_path))
    assert SquareFinder.seen == 0 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [b"a\nb.mp4", b"c\xff.mp4", b" d.mp4"])
def test_a_name_that_no_list_can_hold_is_left_out(tmp_path, finder, name, caplog, capfd):
    caplog.set_level(logging.CRITICAL)  # no process of pytest could tell another one of this name
    good = made.video(tmp_path / "raw" / "speech-1.mp4")
    shutil.copy(good, good.with_name(os.fsdecode(name)))
    tally = prepare.prepare(config(tmp_path))
    assert (tally.used, dict(tally.refused)) == (1, {"bad name": 1})
    assert (tmp_path / "out" / "clips.txt").read_text() == "speech-1.mp4\n"
    assert "rename it" in (tmp_path / "out" / "report.csv").read_text()
    with pytest.raises(Mistake, match="rename it"):
        read_clip(good.with_name(os.fsdecode(name)), os.fsdecode(name), "talking")
    capfd.readouterr()


def test_a_separated_voice_takes_the_place_of_the_sound(tmp_path, finder):
    made.video(tmp_path / "raw" / "singing-1.mp4")
    (tmp_path / "voices").mkdir()
    made.sound(tmp_path / "voices" / "singing-1.wav", 0.8, rate=24000)
    prepare.prepare(config(tmp_path, vocals=tmp_path / "voices"))
    assert read_clip(tmp_path / "out" / "singing-1.mp4", "c", "singing").sound_rate == 24000


def test_a_full_disk_ends_the_run(tmp_path, finder, monkeypatch):
    made.video(tmp_path / "raw" / "speech-1.mp4")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(Mistake, match="speech-1.masks.zip: cannot be written .*No space.*goes on from there"):
        prepare.prepare(config(tmp_path))
    assert not [path for path in (tmp_path / "out").iterdir() if "quality" in path.name or path.name.startswith(".")]


def test_two_clips_of_one_name(tmp_path, finder):
    made.video(tmp_path / "raw" / "speech.mp4")
    (tmp_path / "raw" / "speech.mov").write_bytes((tmp_path / "raw" / "speech.mp4").read_bytes())
    with pytest.raises(Mistake, match="two clips have the same name"):
        prepare.prepare(config(tmp_path))


def test_models_are_asked_for(tmp_path):
    made.video(tmp_path / "raw" / "speech.mp4")
    with pytest.raises(Mistake, match="d: no such model file"):
        prepare.prepare(config(tmp_path))


def test_cuts_are_counted():
    rng = np.random.default_rng(0)
    scenes = [rng.uniform(0, 255, (1, 48, 48)).repeat(20, 0) for _ in range(3)]
    noisy = np.concatenate(scenes).astype(np.float32) + rng.normal(0, 1, (60, 48, 48)).astype(np.float32)
    assert quality.count_cuts(noisy) == 2
    assert quality.count_cuts(noisy[:20]) == 0
    fast = np.stack([np.roll(scenes[0][0], 3 * i, 1) for i in range(20)]).astype(np.float32)
    assert quality.count_cuts(fast) == 0, "everything moves all the time: no cut"


def test_a_still_background_is_told_from_a_moving_one():
    still = np.stack([quality.thumbnail(frame) for frame in made.frames(10, 96, 128)])
    assert quality.border_motion(still) < 0.01
    moving = np.stack([np.roll(still[0], i, 1) * 3 for i in range(10)])
    assert quality.border_motion(moving) > 4


def test_loudness():
    assert quality.loudness(np.full(100, 0.1, np.float32)) == pytest.approx(-20, abs=0.01)
    assert quality.loudness(np.zeros(100, np.float32)) == quality.SILENCE


def test_uneven_frames_are_noticed(tmp_path):
    assert quality.uneven_time(made.video(tmp_path / "a.mp4"), 25.0) < 0.001
    assert quality.uneven_time(tmp_path / "a.mp4", 20.0) > 0.05


def test_the_hull_goes_around():
    points = np.array([[0, 0], [4, 0], [4, 4], [0, 4], [2, 2], [1, 3]], np.float32)
    assert {tuple(corner) for corner in faces.convex_hull(points)} == {(0, 0), (4, 0), (4, 4), (0, 4)}


def test_no_face_no_mask():
    assert all(not np.asarray(mask).any() for mask in faces.face_masks(None, (8, 6), 0.1))


def test_anchors_are_those_of_the_detector():
    assert faces.ANCHORS.shape == (896, 2)
    np.testing.assert_allclose(faces.ANCHORS[[0, 2, 511, 512, 895]] * 16,
                               [[0.5, 0.5], [1.5, 0.5], [15.5, 15.5], [1, 1], [15, 15]])


@pytest.fixture(scope="module")
def real(shared):
    pytest.importorskip("ai_edge_litert", reason="the face models run in LiteRT: pip install -e '.[face]'")
    models = shared / "models"
    return faces.FaceFinder(models / "face_detection_short_range.tflite", models / "face_landmark.tflite")


def test_a_real_face_is_found(real, shared):
    """Where MediaPipe 0.10.21 finds it: lips x 202-245, y 139-155, face x 179-271, y 71-177."""
    with Image.open(shared / "data" / "portraits" / "photo-woman-02.png") as image:
        face = real.find(image.convert("RGB"))
        small = Image.new("RGB", (1600, 1600))
        small.paste(image.convert("RGB").resize((800, 800)), (700, 100))
    lips = face.points[list(faces.OUTER_LIPS)]
    np.testing.assert_allclose([*lips.min(0), *lips.max(0)], [202, 139, 245, 155], atol=3)
    np.testing.assert_allclose([*face.points.min(0), *face.points.max(0)], [179, 71, 271, 177], atol=4)
    expected = face.points * 800 / 512 + (700, 100)
    assert np.abs(real.find(small).points - expected).mean() < 3, "a small face is found in a part of the picture"


def test_a_dog_has_no_face(real, shared):
    with Image.open(shared / "data" / "portraits" / "animal-01.jpg") as image:
        assert real.find(image.convert("RGB")) is None


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


def test_a_failure_leaves_nothing_of_a_clip(tmp_path, finder, monkeypatch):
    made.video(tmp_path / "raw" / "a.mp4")

    def refuse(*_):
        raise Mistake("no")

    monkeypatch.setattr(SquareFinder, "follow", refuse)
    prepare.prepare(config(tmp_path))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.csv", "clips.txt"}


def test_clips_are_brought_to_a_frame_rate(tmp_path, finder):
    made.video(tmp_path / "raw" / "a.mp4", 20)
    made.video(tmp_path / "raw" / "b.mov.mp4", 20)
    (tmp_path / "raw" / "b.mov.mp4").rename(tmp_path / "raw" / "b.mov")
    prepare.prepare(config(tmp_path, fps=30.0))
    for name in ("a", "b"):
        clip = read_clip(tmp_path / "out" / f"{name}.mp4", name, "talking")
        assert (clip.fps, clip.frames, clip.masks_missing) == (30, 24, 0)
        clip.check()
        # The square moves a pixel a frame: new frame k shows the old frame at its middle, (k + 0.5) / 30 s.
        masks = [np.asarray(clip.mask("face_masks", k)).any(0).argmax() for k in (0, 11, 23)]
        shown = [np.asarray(picture)[20, :, 0].argmax() for picture in clip.pictures([0, 11, 23])]
        assert [abs(at - int((k + 0.5) * 25 / 30) % 16 - 20) <= 3 for k, at in zip((0, 11, 23), shown, strict=True)]
        assert len(masks) == 3
    assert prepare.prepare(config(tmp_path, fps=30.0)).used == 2
    assert SquareFinder.seen == 48, "what is there is not made again"


def test_at_rate_shows_what_is_shown(tmp_path):
    path = made.video(tmp_path / "a.mp4", 20)
    info = media.probe(path)
    for fps in (12.5, 25.0, 24.0, 60.0):
        frames = [frame.astype(int) for frame in prepare.at_rate(path, info, fps)]
        assert len(frames) == round(0.8 * fps)
        own = [frame.astype(int) for frame in media.read_video(path)]
        for number, frame in enumerate(frames):
            np.testing.assert_array_equal(frame, own[int((number + 0.5) * 25 / fps)])


def test_clips_shorter_than_a_training_window_are_left_out(tmp_path, finder):
    made.video(tmp_path / "raw" / "a.mp4", 20)
    tally = prepare.prepare(config(tmp_path, frames=21))
    assert tally.used == 0
    assert "20 frames, a training window has 21 (--frames)" in rows(tmp_path)["a.mp4"]["faults"]
    assert (tmp_path / "out" / "clips.txt").read_text() == ""


def test_the_output_is_no_input(tmp_path, finder):
    made.video(tmp_path / "raw" / "a.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "raw")
    (tmp_path / "list.txt").write_text("raw/a.mp4\n")
    for options in (
        {"output": tmp_path / "raw"}, {"output": tmp_path / "link"}, {"output": tmp_path / "raw" / "out"},
        {"source": tmp_path / "list.txt", "output": tmp_path}, {"vocals": tmp_path / "out"},
    ):  # fmt: skip
        (tmp_path / "out").mkdir(exist_ok=True)
        with pytest.raises(Mistake, match="is an input|is read|lies in it"):
            prepare.prepare(config(tmp_path, **options))
    assert {path.name for path in (tmp_path / "raw").iterdir()} == {"a.mp4"}
    listed = tmp_path / "out" / "clips.txt"  # a list of the user's, where `prepare` would put its own
    listed.write_text("../raw/a.mp4\n")
    with pytest.raises(Mistake, match="is an input too"):
        prepare.prepare(config(tmp_path, source=listed, output=tmp_path / "out"))
    assert listed.read_text() == "../raw/a.mp4\n"


def test_pixels_that_are_not_square(tmp_path, finder):
    path = coded(tmp_path / "a.mp4", aspect=Fraction(16, 11))
    with av.open(path) as video, av.open(tmp_path / "raw.mkv", "w") as file:  # beside a sound
        made.sound(tmp_path / "s.wav", 0.12)
        streams = file.add_stream_from_template(video.streams.video[0]), file.add_stream("pcm_s16le", 16000)
        for packet in video.demux(video.streams.video[0]):
            if packet.dts is not None:
                packet.stream = streams[0]
                file.mux(packet)
        with av.open(tmp_path / "s.wav") as sound:
            for frame in sound.decode(audio=0):
                file.mux(streams[1].encode(frame))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw.mkv").rename(tmp_path / "raw" / "a.mkv")
    prepare.prepare(config(tmp_path, frames=3))
    assert (rows(tmp_path)["a.mkv"]["width"], rows(tmp_path)["a.mkv"]["height"]) == ("93", "48")
    clip = read_clip(tmp_path / "out" / "a.mkv", "a", "talking")
    assert clip.mask("face_masks", 0).size == clip.pictures([0])[0].size == (93, 48)


def test_swapped_models_are_named(shared, tmp_path, capsys):
    pytest.importorskip("ai_edge_litert", reason="the face models run in LiteRT: pip install -e '.[face]'")
    made.video(tmp_path / "raw" / "a.mp4")
    detector, landmarks = (shared / "models" / f"face_{name}.tflite" for name in ("landmark", "detection_short_range"))
    status = main(["prepare", "--source", str(tmp_path / "raw"), "--output", str(tmp_path / "out"),
                   "--detector", str(detector), "--landmarks", str(landmarks)])  # fmt: skip
    assert status == 1
    assert "face_landmark.tflite: another model than --detector needs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_status_1_where_every_clip_was_left_out(tmp_path, finder, capsys):
    made.video(tmp_path / "raw" / "a.mp4")
    for name in ("d", "l"):
        (tmp_path / name).touch()
    options = ["--source", "raw", "--output", "out", "--detector", "d", "--landmarks", "l", "--workers", "0"]
    with contextlib.chdir(tmp_path):
        assert main(["prepare", *options]) == 1
    assert "raw: no clip can be used; report.csv says why" in capsys.readouterr().err


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


def begin_late(config):
    prepare.FaceFinder, prepare.everyone = Late, one
    return prepare._begin(config)


def begin_endless(config):
    prepare.FaceFinder, prepare.everyone = Endless, one
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


def test_a_link_that_leads_nowhere_is_reported(tmp_path, finder):
    made.video(tmp_path / "raw" / "a.mp4")
    (tmp_path / "raw" / "b.mp4").symlink_to(tmp_path / "gone.mp4")
    prepare.prepare(config(tmp_path))
    assert "b.mp4: no such file" in rows(tmp_path)["b.mp4"]["faults"]


def test_a_second_run_is_refused(tmp_path, finder):
    """A process that is writing there is named, and loses nothing."""
    made.video(tmp_path / "raw" / "a.mp4")
    with alone(tmp_path / "out"), pytest.raises(Mistake, match=f"out: process {os.getpid()} .* is writing it"):
        prepare.prepare(config(tmp_path))
    assert prepare.prepare(config(tmp_path)).used == 1
