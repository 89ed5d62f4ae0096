"""A video in closed segments, and the video that they are joined to."""

import contextlib
import errno
import os
from fractions import Fraction

import av
import numpy as np
import pytest

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.media import segments
from stableavatar_jax.media.segments import join
from tests.disk import small_disk
from tests.media import made

RATE = SAMPLE_RATE
SIZE = {"height": 64, "width": 96}


def pictures(count, seed=0):
    """Frames with noise that moves: x264 encodes them with frames that are predicted from later ones."""
    noise = np.random.default_rng(seed).integers(0, 255, (64, 96 + 2 * count, 3), np.uint8)
    smooth = np.cumsum(noise - 127.0, axis=1).clip(0, 1) * 90 + noise // 4
    return np.stack([smooth[:, 2 * i : 2 * i + 96] + i % 60 for i in range(count)]).astype(np.uint8)


def written(folder, frames, length, fps=25, step=4):
    with media.Segments(folder, fps=fps, frames=length, **SIZE) as video:
        for start in range(0, len(frames), step):
            video.write(frames[start : start + step])
        video.finish()
    return video


@pytest.mark.parametrize("seed", [0, 3])
def test_the_same_frames_give_the_same_file(tmp_path, seed):
    """x264's AVX-512 code gave up to 14 different files of these frames in 100 runs."""
    noise = np.random.default_rng(seed).integers(0, 255, (64, 96 + 2 * 43, 3), np.uint8) // 2
    frames = np.stack([noise[:, 2 * i : 2 * i + 96] + np.uint8(i) for i in range(16)])
    files = set()
    for _ in range(40):
        with media.VideoWriter(tmp_path / "out.mp4", fps=25, **SIZE) as video:
            video.write(frames)
        files.add((tmp_path / "out.mp4").read_bytes())
    assert len(files) == 1


def seen(path):
    return np.stack(list(media.read_video(path)))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """43 frames in segments of 16, the frames, and a recording of the same length."""
    folder = tmp_path_factory.mktemp("talk")
    frames = pictures(43)
    written(folder / "run", frames, 16)
    return folder / "run", frames, made.save_wav(folder / "talk.wav", made.voice(43 / 25, 44100, 2), 44100)


def test_segments_are_videos_that_a_playlist_names(talk):
    folder, frames, _ = talk
    files = [f"segment-0000{i}.mp4" for i in range(3)]
    assert names(folder) == [segments.PLAYLIST, *files]
    shown = np.concatenate([seen(folder / name) for name in files]).astype(int)
    assert shown.shape == frames.shape
    distance = np.abs(shown[:, None, ::4, ::4].mean(-1) - frames[None, :, ::4, ::4].mean(-1)).mean((2, 3))
    np.testing.assert_array_equal(distance.argmin(1), range(43))  # each in its place
    lines = (folder / segments.PLAYLIST).read_text().splitlines()
    assert lines == [
        "#EXTM3U",
        "#EXTINF:0.640000,",
        files[0],
        "#EXTINF:0.640000,",
        files[1],
        "#EXTINF:0.440000,",
        files[2],
    ]


def complaints(path):
    """What FFmpeg warns of while it plays a file."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with (
            av.logging.Capture(local=False) as told,
            av.open(path) as file,
            contextlib.suppress(av.error.FFmpegError),
        ):
            for packet in file.demux():
                packet.decode()
        return told
    finally:
        av.logging.set_level(before)


def test_a_damaged_video_is_complained_of(tmp_path, talk):
    data = bytearray((talk[0] / "segment-00000.mp4").read_bytes())
    data[-2000:-1000] = bytes(1000)
    (tmp_path / "hurt.mp4").write_bytes(data)
    assert complaints(tmp_path / "hurt.mp4")


@pytest.mark.parametrize("fps", [24, 25, 29.97, 30])
@pytest.mark.parametrize("length", [2, 16, 43, 100])
def test_joined_segments_are_one_video(tmp_path, fps, length):
    """Also with a last segment of a single frame: 43 are 21 twos and a one."""
    frames, rate = pictures(43), Fraction(fps).limit_denominator(1001)
    written(tmp_path / "run", frames, length, fps)
    join(tmp_path / "run", tmp_path / "out.mp4", sound=None, fps=fps)
    parts = [seen(path) for path in sorted((tmp_path / "run").glob("*.mp4"))]
    np.testing.assert_array_equal(seen(tmp_path / "out.mp4"), np.concatenate(parts))
    assert complaints(tmp_path / "out.mp4") == []
    with av.open(tmp_path / "out.mp4") as file:
        stream = file.streams.video[0]
        packets = [packet for packet in file.demux(stream) if packet.dts is not None]
        assert [frame.pts * stream.time_base for frame in _decoded(tmp_path / "out.mp4")] == [
            i / rate for i in range(43)
        ]
        assert stream.average_rate == rate and abs(stream.duration * stream.time_base - 43 / rate) < 0.001
    dts = [packet.dts for packet in packets]
    assert all(a < b for a, b in zip(dts, dts[1:], strict=False))
    assert all(packet.pts >= packet.dts for packet in packets)
    if length >= 16:
        assert any(packet.pts > packet.dts + 2 * packet.duration for packet in packets)  # B-frames are in it


def _decoded(path):
    with av.open(path) as file:
        yield from file.decode(video=0)


def test_a_joined_video_is_as_the_writer_makes_it(tmp_path, talk):
    folder, frames, recording = talk
    join(folder, tmp_path / "joined.mp4", sound=recording, fps=25)
    with media.VideoWriter(tmp_path / "whole.mp4", fps=25, sound=recording, **SIZE) as video:
        video.write(frames)
    joined, whole = tmp_path / "joined.mp4", tmp_path / "whole.mp4"
    assert media.probe(joined) == media.probe(whole)
    np.testing.assert_array_equal(media.read_sound(joined), media.read_sound(whole))
    with av.open(joined) as one, av.open(whole) as other:
        a, b = one.streams.video[0].codec_context, other.streams.video[0].codec_context
        for name in ("pix_fmt", "color_range", "colorspace", "color_primaries", "color_trc", "profile", "extradata"):
            assert getattr(a, name) == getattr(b, name), name
    data = joined.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays while it is loaded
    join(folder, tmp_path / "again.mp4", sound=recording, fps=25)
    assert (tmp_path / "again.mp4").read_bytes() == data


def test_sound_and_pictures_lie_together_in_the_file(tmp_path):
    written(tmp_path / "run", pictures(200), 50)
    recording = made.save_wav(tmp_path / "talk.wav", made.voice(8, RATE), RATE)
    join(tmp_path / "run", tmp_path / "out.mp4", sound=recording, fps=25)
    with av.open(tmp_path / "out.mp4") as file:
        times = [(p.pos, p.stream.type, float(p.pts * p.time_base)) for p in file.demux() if p.pts is not None]
    reached = {"video": 0.0, "audio": 0.0}
    for _, kind, time in sorted(times):
        reached[kind] = time
        assert abs(reached["video"] - reached["audio"]) < 1.2


@pytest.mark.parametrize(("seconds", "silent"), [(3.0, False), (0.5, True)])
def test_sound_is_cut_or_followed_by_silence(tmp_path, talk, seconds, silent):
    recording = made.save_wav(tmp_path / "talk.wav", made.voice(seconds, 48000), 48000)
    join(talk[0], tmp_path / "out.mp4", sound=recording, fps=25)
    heard = media.read_sound(tmp_path / "out.mp4")
    assert len(heard) == pytest.approx(43 / 25 * RATE, abs=1)
    assert (np.abs(heard[int(0.6 * RATE) :]).max() < 1e-3) == silent


@pytest.mark.parametrize("stop", [0, 5, 16, 31, 32, 43])
def test_a_run_that_was_killed_goes_on(tmp_path, talk, stop):
    """What is whole stays, what is not is redone; the video is the one of a run that was not killed."""
    folder, frames, recording = talk
    with media.Segments(tmp_path / "run", fps=25, frames=16, **SIZE) as video:
        video.write(frames[:stop])
        (tmp_path / "run" / ".segment-00009.mp4.part").write_bytes(b"left by a process that was killed")
    assert video.closed == stop // 16
    whole = [path.read_bytes() for path in sorted((tmp_path / "run").glob("segment-*"))]
    with media.Segments(tmp_path / "run", fps=25, frames=16, **SIZE) as video:
        assert not list((tmp_path / "run").glob(".*"))
        assert video.closed == stop // 16
        video.write(frames[16 * video.closed :])
        video.finish()
    assert names(tmp_path / "run") == names(folder)
    for path in folder.iterdir():
        assert (tmp_path / "run" / path.name).read_bytes() == path.read_bytes()
    assert whole == [path.read_bytes() for path in sorted(folder.glob("segment-*"))][: len(whole)]


def test_a_finished_video_is_not_appended_to(talk):
    folder, frames, _ = talk
    with media.Segments(folder, fps=25, frames=16, **SIZE) as video:
        assert (video.closed, video.last) == (3, 11)
        video.finish()
        with pytest.raises(ValueError, match="finished"):
            video.write(frames[:1])
    assert len(names(folder)) == 4


@pytest.mark.parametrize("fault", ["cut", "missing", "garbage", "size", "longer"])
def test_a_segment_that_is_not_whole_is_redone_with_those_after_it(tmp_path, fault):
    folder, frames = tmp_path / "run", pictures(43)
    written(folder, frames, 16)
    hurt = segments.segment(folder, 1)
    if fault == "cut":
        os.truncate(hurt, hurt.stat().st_size - 9)
    elif fault == "garbage":
        hurt.write_bytes(b"no video")
    else:
        hurt.unlink()
    if fault in ("size", "longer"):
        written(tmp_path / "other", pictures(30) if fault == "longer" else pictures(16), 30)
        data = segments.segment(tmp_path / "other", 0).read_bytes()
        hurt.write_bytes(data)
    height = 48 if fault == "size" else 64
    with media.Segments(folder, fps=25, frames=16, height=height, width=96) as video:
        assert video.closed == (0 if fault == "size" else 1)
        assert sorted(path.name for path in folder.glob("*.mp4")) == ["segment-00000.mp4"][: video.closed]
        assert (folder / segments.PLAYLIST).read_text().count("EXTINF") == video.closed


def test_segments_that_cannot_be_joined(tmp_path, talk):
    folder, _, recording = talk
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(Mistake, match=r"segment-00000.mp4: is missing.*--restart"):
        join(run, tmp_path / "out.mp4", sound=recording, fps=25)
    for path in folder.iterdir():
        (run / path.name).write_bytes(path.read_bytes())
    os.truncate(run / "segment-00001.mp4", 3000)
    with pytest.raises(Mistake, match=r"segment-00001.mp4: .*--restart"):
        join(run, tmp_path / "out.mp4", sound=recording, fps=25)
    (run / "segment-00001.mp4").unlink()
    with pytest.raises(Mistake, match=r"segment-00001.mp4: is missing"):
        join(run, tmp_path / "out.mp4", sound=recording, fps=25)
    with pytest.raises(Mistake, match="lies in"):
        join(folder, folder / "out.mp4", sound=recording, fps=25)
    with pytest.raises(Mistake, match="is an input too"):
        join(folder, tmp_path / "talk.mp4", sound=None, fps=25, inputs=[made_file(tmp_path / "talk.mp4")])
    assert names(tmp_path) == ["run", "talk.mp4"]


def made_file(path):
    path.write_bytes(b"an input")
    return path


class FullDisk:
    """A file on which there is no room after some packets."""

    def __init__(self, file, packets):
        self.file, self.packets = file, packets

    def mux(self, packets):
        self.packets -= len(packets) if isinstance(packets, list) else 1
        if self.packets < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.file.mux(packets)

    def __getattr__(self, name):
        return getattr(self.file, name)


def full_after(packets, patched):
    opened = av.open

    def opening(file, mode, **options):
        return opened(file, mode, **options) if mode == "r" else FullDisk(opened(file, mode, **options), packets)

    patched.setattr(av, "open", opening)


def test_a_disk_that_is_full_leaves_what_is_whole(tmp_path, monkeypatch):
    frames, folder = pictures(43), tmp_path / "run"
    with media.Segments(folder, fps=25, frames=16, **SIZE) as video:
        video.write(frames[:16])
        with monkeypatch.context() as patched:
            full_after(3, patched)
            with pytest.raises(Mistake, match="No space left on device.*make room"):
                video.write(frames[16:])
        assert names(folder) == [segments.PLAYLIST, "segment-00000.mp4"]
    with media.Segments(folder, fps=25, frames=16, **SIZE) as video:
        video.write(frames[16:])
        video.finish()
    with monkeypatch.context() as patched:
        full_after(20, patched)
        with pytest.raises(Mistake, match="No space left on device.*make room"):
            join(folder, tmp_path / "out.mp4", sound=None, fps=25)
    assert names(tmp_path) == ["run"]
    join(folder, tmp_path / "out.mp4", sound=None, fps=25)
    assert media.probe(tmp_path / "out.mp4").frames == 43


def test_files_that_may_not_grow_further(tmp_path):
    frames, folder = pictures(32), tmp_path / "run"
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 96, 3), np.uint8)
    with media.Segments(folder, fps=25, frames=32, **SIZE) as video:
        video.write(frames)
        first = (folder / "segment-00000.mp4").read_bytes()
        with small_disk(100_000), pytest.raises(Mistake, match="make room"):
            for _ in range(10):
                video.write(noise)
    assert names(folder) == [segments.PLAYLIST, "segment-00000.mp4"]
    assert (folder / "segment-00000.mp4").read_bytes() == first


def test_outputs_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder, words in ((tmp_path / "none" / "run", "cannot be written"), (tmp_path / "file", "cannot be written")):
        with pytest.raises(Mistake, match=words), media.Segments(folder, fps=25, frames=16, **SIZE):
            pytest.fail("opened")
    with (
        media.Segments(tmp_path / "run", fps=25, frames=16, **SIZE) as video,
        pytest.raises(Mistake, match="frames of shape"),
    ):
        video.write(made.moving(4, 32, 32))
