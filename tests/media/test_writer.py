"""Videos with sound, written and read back."""

import resource
from pathlib import Path

import av
import numpy as np
import pytest

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE, frames_of
from tests.media import made

RATE = SAMPLE_RATE


@pytest.mark.parametrize(
    ("seconds", "rate", "channels", "fps"),
    [(0.1, 16000, 1, 25), (0.2, 8000, 1, 24), (3.24, 44100, 2, 25), (2.0, 22050, 1, 30), (1.5, 48000, 2, 29.97)],
)
def test_video_and_sound_come_back(tmp_path, seconds, rate, channels, fps):
    original = made.voice(seconds, rate, channels)
    recording = made.save_wav(tmp_path / "recording.wav", original, rate)
    frames = frames_of(original.shape[1], rate, fps)
    pictures = made.moving(frames)
    with media.VideoWriter(tmp_path / "out.mp4", fps=fps, height=32, width=48, sound=recording) as video:
        for start in range(0, frames, 4):
            video.write(pictures[start : start + 4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "recording.wav"]

    info = media.probe(tmp_path / "out.mp4")
    assert (info.frames, info.height, info.width, info.sound) == (frames, 32, 48, True)
    assert info.fps == pytest.approx(fps)
    assert abs(info.seconds - seconds) <= 1 / fps
    seen = np.stack(list(media.read_video(tmp_path / "out.mp4")))
    np.testing.assert_allclose(seen.astype(int), pictures, atol=4)

    heard = media.read_sound(tmp_path / "out.mp4")
    assert len(heard) == pytest.approx(info.seconds * RATE, abs=0.001 * RATE)  # MP4 states lengths in milliseconds
    lag, agreement = made.best_lag(heard, media.read_sound(recording), most=min(200, len(heard) // 8))
    assert lag == 0
    assert agreement > 0.99

    with av.open(tmp_path / "out.mp4") as file:  # also to a reader that does not cut the last AAC frame
        track = file.streams.audio[0]
        assert track.channels == channels
        assert sum(frame.samples for frame in file.decode(track)) / track.rate <= info.seconds + 1 / fps


def test_sound_is_cut_or_followed_by_silence_to_the_frames(tmp_path):
    for name, seconds in (("longer", 3.0), ("shorter", 0.5)):
        recording = made.save_wav(tmp_path / f"{name}.wav", made.voice(seconds, 48000), 48000)
        with media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48, sound=recording) as video:
            video.write(made.moving(30))
        heard = media.read_sound(tmp_path / "out.mp4")
        assert len(heard) == pytest.approx(1.2 * RATE, abs=1)
        assert (np.abs(heard[int(0.6 * RATE) :]).max() < 1e-3) == (name == "shorter")


def test_sound_is_read_as_the_frames_come(tmp_path):
    """A recording of an hour is not in memory, nor is any of it read far ahead of the pictures."""
    read = 0

    def blocks():
        nonlocal read
        for _ in range(36000):
            read += 1
            yield np.zeros((1, 4800), np.float32)  # 0.1 s

    sound = media.Sound(rate=48000, channels=1, blocks=blocks())
    with media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48, sound=sound) as video:
        for second in range(1, 4):
            video.write(made.moving(25))
            assert 10 * second - 1 <= read <= 10 * second + 1


def test_colours_are_bt709(tmp_path):
    """As players read an H.264 of this size only when told to: tagged, and encoded as tagged (red's luma is 63)."""
    red = np.broadcast_to(np.array([255, 0, 0], np.uint8), (2, 32, 48, 3))
    with media.VideoWriter(tmp_path / "red.mp4", fps=25, height=32, width=48) as video:
        video.write(red)
    with av.open(tmp_path / "red.mp4") as file:
        frame = next(file.decode(video=0))
    assert frame.format.name == "yuv420p"
    assert frame.colorspace == 1
    assert frame.to_ndarray()[:32].mean() == pytest.approx(63, abs=1)
    np.testing.assert_allclose(next(media.read_video(tmp_path / "red.mp4")).astype(int), red[0], atol=3)


def test_float_frames_are_postprocessed(tmp_path):
    frames = np.array([-2, -1, 0, 0.5, 1, 2], np.float32)
    np.testing.assert_array_equal(media.postprocess(frames), [0, 0, 127, 191, 255, 255])
    pictures = made.moving(3)
    with media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48) as video:
        video.write(pictures / np.float32(127.5) - 1)
    np.testing.assert_allclose(np.stack(list(media.read_video(tmp_path / "out.mp4"))).astype(int), pictures, atol=4)


@pytest.mark.parametrize("frames", [0, 1, 60])
def test_nothing_is_left_after_an_error(tmp_path, frames):
    (tmp_path / "out.mp4").write_text("an older video")
    recording = made.save_wav(tmp_path / "recording.wav", made.voice(3, RATE), RATE)

    def fail():
        with media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48, sound=recording) as video:
            video.write(made.moving(frames)) if frames else None
            assert any(path.name.endswith(".part") for path in tmp_path.iterdir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "recording.wav"]
    assert (tmp_path / "out.mp4").read_text() == "an older video"


def test_outputs_refused(tmp_path):
    made.save_wav(tmp_path / "empty.wav", np.zeros((1, 0)), RATE)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "text.wav").write_text("no sound")
    before = sorted(tmp_path.rglob("*"))
    for path, sound, words in (
        (tmp_path / "none" / "out.mp4", None, "there is no folder"),
        (tmp_path / "out.avi", None, "ends in .mp4"),
        (tmp_path / "folder.mp4", None, "is a folder"),
        (tmp_path / ("x" * 260 + ".mp4"), None, "cannot be written"),
        (tmp_path / "out.mp4", tmp_path / "text.wav", "text.wav: cannot be opened"),
        (tmp_path / "out.mp4", tmp_path / "none.wav", "none.wav: no such file"),
    ):
        with (
            pytest.raises(Mistake, match=words),
            media.VideoWriter(path, fps=25, height=32, width=48, sound=sound),
        ):
            pytest.fail("opened")
    with (
        pytest.raises(Mistake, match="no frames"),
        media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48),
    ):
        pass
    with pytest.raises(ValueError, match="even"):
        media.VideoWriter(tmp_path / "out.mp4", fps=25, height=33, width=48)
    with (
        pytest.raises(ValueError, match="frames of shape"),
        media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48) as video,
    ):
        video.write(made.moving(1, 48, 32))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_reported(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 128, 128, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with (
            pytest.raises(Mistake, match="make room"),
            media.VideoWriter(tmp_path / "out.mp4", fps=25, height=128, width=128) as video,
        ):
            for _ in range(3):
                video.write(noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["12:30.mp4", "é" * 124 + ".mp4", "%03d.mp4", "-x.mp4", "http:x.MP4", "a\nb.mp4"])
def test_names_are_names(tmp_path, monkeypatch, name):
    """Relative ones too: what stands before a colon is no protocol, and a long name's hidden one is shorter."""
    monkeypatch.chdir(tmp_path)
    with media.VideoWriter(Path(name), fps=25, height=32, width=48) as video:
        video.write(made.moving(3))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert media.probe(Path(name)).frames == 3


def test_a_recording_is_not_written_over(tmp_path):
    with media.VideoWriter(tmp_path / "talk.mp4", fps=25, height=32, width=48,
                           sound=made.save_wav(tmp_path / "a.wav", made.voice(1, RATE), RATE)) as video:  # fmt: skip
        video.write(made.moving(25))
    before = (tmp_path / "talk.mp4").read_bytes()
    (tmp_path / "link.mp4").symlink_to("talk.mp4")
    for output, sound in (("talk", "talk"), ("link", "talk"), ("talk", "link")):
        with (
            pytest.raises(Mistake, match="is an input too"),
            media.VideoWriter(tmp_path / f"{output}.mp4", fps=25, height=32, width=48, sound=tmp_path / f"{sound}.mp4"),
        ):
            pytest.fail("opened")
    assert (tmp_path / "talk.mp4").read_bytes() == before


def test_one_writer_at_a_time(tmp_path):
    def writer():
        return media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48)

    with writer() as video:
        with pytest.raises(Mistake, match="process [0-9]+ on .* is writing it"), writer():
            pytest.fail("opened")
        video.write(made.moving(3))
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
