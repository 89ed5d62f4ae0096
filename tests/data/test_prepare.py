"""Preparing raw clips, with a made-up face finder: what is made of them, and what is made once."""

from fractions import Fraction

import av
import numpy as np
import pytest

from stableavatar_jax import media
from stableavatar_jax.data.clips import prepare
from stableavatar_jax.data.clips.config import Limits
from stableavatar_jax.data.clips.layouts import named_clips, read_clip
from tests.data import made
from tests.data.preparing import SquareFinder, config, rows
from tests.media.test_video import coded


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


def test_a_separated_voice_takes_the_place_of_the_sound(tmp_path, finder):
    made.video(tmp_path / "raw" / "singing-1.mp4")
    (tmp_path / "voices").mkdir()
    made.sound(tmp_path / "voices" / "singing-1.wav", 0.8, rate=24000)
    prepare.prepare(config(tmp_path, vocals=tmp_path / "voices"))
    assert read_clip(tmp_path / "out" / "singing-1.mp4", "c", "singing").sound_rate == 24000


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
