"""Clips on disk, and what is said of bad ones."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax.data.clips import layouts
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.sources.windows import read_window
from stableavatar_jax.errors import Mistake
from tests.data import made


def read(path, name="c"):
    return layouts.read_clip(path, name, "talking")


SMALL = {"frames": 5, "height": 48, "width": 64}


@pytest.mark.parametrize("name", ["frame_{}.png", "{}.png"])
def test_a_folder_of_the_release(tmp_path, name):
    """Frames are in the order of their numbers, not of their names: 2 before 10."""
    clip = read(made.folder_clip(tmp_path / "1", name=name))
    assert (clip.kind, clip.fps, clip.frames, clip.height, clip.width) == ("talking", 25, 12, 48, 64)
    pictures = np.stack([np.asarray(picture) for picture in clip.pictures(range(12))])
    np.testing.assert_array_equal(pictures, made.frames(12))
    assert clip.masks_missing == 0


def test_a_video_with_its_masks(tmp_path):
    path = made.video_clip(tmp_path / "singing-01.mp4")
    clip = layouts.read_clip(path, path.name, layouts.kind_of(path.name))
    clip.check()
    clip.check_masks()
    assert (clip.kind, clip.fps, clip.frames, clip.sound_rate) == ("singing", 25, 20, 32000)
    shown = [np.asarray(picture).astype(int) for picture in clip.pictures([7, 3, 7])]
    assert np.abs(np.stack(shown) - made.frames(20)[[7, 3, 7]]).mean() < 10  # H.264 is not exact
    np.testing.assert_array_equal(shown[0], shown[2])
    assert len(clip.samples) == pytest.approx(0.8 * 16000, abs=16)


@pytest.mark.parametrize(
    "name, kind",
    [
        ("rec/speech/00001", "talking"),
        ("singing/rec/speech/00001", "talking"),  # the folder next to the clip knows best
        ("rec/dancing/00003", "dancing"),
        ("Singing-01.mp4", "singing"),
    ],
)
def test_the_kind_is_in_the_path(name, kind):
    assert layouts.kind_of(name, Path("my/dancing")) == kind


def test_a_path_without_a_kind():
    assert layouts.kind_of("halfbody-01.mp4", Path("singing/clips")) is None
    assert layouts.kind_of("halfbody-01.mp4", Path("clips/singing")) == "singing"
    assert layouts.kind_of("talking/halfbody-01.mp4") == "talking"


def test_missing_masks_are_an_error(tmp_path):
    folder = made.folder_clip(tmp_path / "speech" / "1")
    (folder / "lip_masks" / "frame_2.png").unlink()
    clip = read(folder, "speech/1")
    with pytest.raises(Mistake, match="speech/1: 1 of 24 face and lip masks are missing"):
        read_window(clip, 0, **SMALL)


def test_missing_masks_are_ones_only_when_asked(tmp_path, caplog):
    folder = made.folder_clip(tmp_path / "speech" / "1")
    (folder / "lip_masks" / "frame_2.png").unlink()
    (folder / "face_masks" / "frame_3.png").write_bytes(b"damaged")
    tally = Tally(missing_masks="ones")
    with caplog.at_level(logging.WARNING):
        window = read_window(read(folder), 0, **SMALL, tally=tally)
    assert (window.lip_mask[2] == 1).all() and (window.face_mask[3] == 1).all()
    assert window.face_mask[2].mean() < 0.2
    assert tally.filled == 2
    assert "taken as all ones" in str(tally) and "2 masks missing" in caplog.text


@pytest.mark.parametrize("missing, skipped", [("skip", True), ("error", False)])
def test_a_tally_skips_what_it_is_told_to(caplog, missing, skipped):
    tally = Tally(on_bad="error", missing_masks=missing)
    error = Mistake("clip 7: no masks", "missing masks")
    if skipped:
        tally.refuse(error)
        assert str(tally) == "1 clip left out (1 missing masks)" and "clip 7" in caplog.text
    else:
        with pytest.raises(Mistake):
            tally.refuse(error)
    with pytest.raises(Mistake):
        tally.refuse(Mistake("clip 8: damaged"))


def test_sound_of_another_length(tmp_path):
    clip = read(made.folder_clip(tmp_path / "speech" / "1", seconds=0.1))
    assert clip.fps == pytest.approx(120)  # without a video the sound alone says how fast the frames are
    video = made.video_clip(tmp_path / "speech-02.mp4")
    made.sound(video.with_suffix(".wav"), 2)
    with pytest.raises(Mistake, match=r"speech-02.mp4: its sound lasts 2.00 s and its 20 frames 0.80 s"):
        read(video, video.name).check()


def test_a_corrupt_video_is_named(tmp_path):
    path = made.video(tmp_path / "speech.mp4")
    path.write_bytes(b"cut off" * 50)
    with pytest.raises(Mistake, match=r"speech.mp4: cannot be opened"):
        read(path)


def test_damaged_masks_are_named(tmp_path):
    path = made.video(tmp_path / "speech.mp4")
    path.with_suffix(".masks.zip").write_bytes(b"PK nothing")
    with pytest.raises(Mistake, match=r"speech.masks.zip: the masks cannot be read"):
        read(path)


def test_no_sound_is_no_silence(tmp_path):
    folder = made.folder_clip(tmp_path / "speech" / "1")
    (folder / "audio.wav").unlink()
    with pytest.raises(Mistake, match="audio.wav: no such file"):
        read(folder)
    made.sound(folder / "audio.wav", 0)
    with pytest.raises(Mistake, match="audio.wav"):
        read(folder)


def test_a_damaged_picture_is_named(tmp_path):
    folder = made.folder_clip(tmp_path / "speech" / "1")
    (folder / "images" / "frame_3.png").write_bytes(b"damaged")
    with pytest.raises(Mistake, match="speech/1: picture 3"):
        read_window(read(folder, "speech/1"), 0, **SMALL)


def test_colour_masks_are_taken_as_grey(tmp_path):
    folder = made.folder_clip(tmp_path / "speech" / "1")
    for path in (folder / "lip_masks").iterdir():
        Image.open(path).convert("RGB").save(path)
    assert 0 < read_window(read(folder), 0, **SMALL).lip_mask.mean() < 0.2


def test_clips_are_found(tmp_path):
    folder = made.folder_clip(tmp_path / "rec" / "speech" / "1")
    made.video(folder / "sub_clip.mp4", 12)  # part of the clip, none of its own
    video = made.video(tmp_path / "b" / "speech.mp4")
    assert layouts.find_clips(tmp_path) == [folder, video]
    (tmp_path / "paths.txt").write_text("b/speech.mp4\n\n")
    assert layouts.find_clips(tmp_path / "paths.txt") == [video]
    (tmp_path / "clips.txt").write_text(f"{folder}\n")
    assert layouts.find_clips(tmp_path) == [folder]


def test_no_clips(tmp_path):
    with pytest.raises(Mistake, match="no clips in it"):
        layouts.find_clips(tmp_path)
    (tmp_path / "paths.txt").write_text("")
    with pytest.raises(Mistake, match="no clips in it"):
        layouts.find_clips(tmp_path / "paths.txt")
    (tmp_path / "paths.txt").write_text("gone\n")
    with pytest.raises(Mistake, match="line 1 lists .gone."):
        layouts.find_clips(tmp_path / "paths.txt")
    with pytest.raises(Mistake, match="neither a folder"):
        layouts.find_clips(tmp_path / "nowhere")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_with_a_mark(tmp_path, encoding):
    for name in ("ä.mp4", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("ä.mp4\r\n\nb.mp4\n", encoding=encoding)
    assert list(layouts.named_clips(tmp_path / "list.txt")) == ["ä.mp4", "b.mp4"]


def test_a_list_in_another_encoding_is_named(tmp_path):
    (tmp_path / "list.txt").write_bytes("a.mp4\nä.mp4\n".encode("latin-1"))
    (tmp_path / "a.mp4").touch()
    with pytest.raises(Mistake, match=r"list.txt: line 2 is not in UTF-8 \(b'.xe4'\); save the list as UTF-8"):
        layouts.named_clips(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("a.mp4\n\ufeffb.mp4\n")
    with pytest.raises(Mistake, match=r"list.txt: line 2 lists '.ufeffb.mp4'"):
        layouts.named_clips(tmp_path / "list.txt")
