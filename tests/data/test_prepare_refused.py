"""Clips, names, folders and models that cannot be prepared or used, and what is told of them."""

import contextlib
import logging
import os
import shutil
import zipfile
from types import SimpleNamespace

import pytest

from stableavatar_jax.data.__main__ import main
from stableavatar_jax.data.clips import prepare, report
from stableavatar_jax.data.clips.layouts import read_clip
from stableavatar_jax.errors import Mistake
from stableavatar_jax.locks import alone
from tests.data import made
from tests.data.preparing import SquareFinder, config, rows


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


def test_clips_shorter_than_a_training_window_are_left_out(tmp_path, finder):
    made.video(tmp_path / "raw" / "a.mp4", 20)
    tally = prepare.prepare(config(tmp_path, frames=21))
    assert tally.used == 0
    assert "20 frames, a training window has 21 (--frames)" in rows(tmp_path)["a.mp4"]["faults"]
    assert (tmp_path / "out" / "clips.txt").read_text() == ""


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


def test_a_link_that_leads_nowhere_is_reported(tmp_path, finder):
    made.video(tmp_path / "raw" / "a.mp4")
    (tmp_path / "raw" / "b.mp4").symlink_to(tmp_path / "gone.mp4")
    prepare.prepare(config(tmp_path))
    assert "b.mp4: no such file" in rows(tmp_path)["b.mp4"]["faults"]


def test_two_clips_of_one_name(tmp_path, finder):
    made.video(tmp_path / "raw" / "speech.mp4")
    (tmp_path / "raw" / "speech.mov").write_bytes((tmp_path / "raw" / "speech.mp4").read_bytes())
    with pytest.raises(Mistake, match="two clips have the same name"):
        prepare.prepare(config(tmp_path))


def test_a_failure_leaves_nothing_of_a_clip(tmp_path, finder, monkeypatch):
    made.video(tmp_path / "raw" / "a.mp4")

    def refuse(*_):
        raise Mistake("no")

    monkeypatch.setattr(SquareFinder, "follow", refuse)
    prepare.prepare(config(tmp_path))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.csv", "clips.txt"}


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


def test_a_full_disk_ends_the_run(tmp_path, finder, monkeypatch):
    made.video(tmp_path / "raw" / "speech-1.mp4")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(Mistake, match="speech-1.masks.zip: cannot be written .*No space.*goes on from there"):
        prepare.prepare(config(tmp_path))
    assert not [path for path in (tmp_path / "out").iterdir() if "quality" in path.name or path.name.startswith(".")]


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


def test_a_second_run_is_refused(tmp_path, finder):
    """A process that is writing there is named, and loses nothing."""
    made.video(tmp_path / "raw" / "a.mp4")
    with alone(tmp_path / "out"), pytest.raises(Mistake, match=f"out: process {os.getpid()} .* is writing it"):
        prepare.prepare(config(tmp_path))
    assert prepare.prepare(config(tmp_path)).used == 1


def test_models_are_asked_for(tmp_path):
    made.video(tmp_path / "raw" / "speech.mp4")
    with pytest.raises(Mistake, match="d: no such model file"):
        prepare.prepare(config(tmp_path))


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
