"""Videos that are read upright, or refused."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE
from tests.media import made

RATE = SAMPLE_RATE


def test_a_phone_video_is_upright(tmp_path):
    """The turn that a phone writes into the track header (a matrix of 16.16 numbers) instead of turning the pixels."""
    with media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48, crf=1) as video:
        video.write(made.gradient(32, 48)[None])
    data = (tmp_path / "out.mp4").read_bytes()
    one, zero, minus = b"\0\1\0\0", b"\0\0\0\0", b"\xff\xff\0\0"
    matrix = data.index(b"tkhd") + 4 + 40
    unit = b"\x40\0\0\0"
    assert data[matrix : matrix + 36] == one + zero * 3 + one + zero * 3 + unit
    clockwise = zero + one + zero + minus + zero * 4 + unit
    (tmp_path / "phone.mp4").write_bytes(data[:matrix] + clockwise + data[matrix + 36 :])
    info = media.probe(tmp_path / "phone.mp4")
    assert (info.height, info.width) == (48, 32)
    seen = next(media.read_video(tmp_path / "phone.mp4")).astype(int)
    np.testing.assert_allclose(seen, np.rot90(made.gradient(32, 48), -1), atol=16)


def test_videos_refused(tmp_path):
    made.save_wav(tmp_path / "sound.wav", made.voice(0.1, RATE), RATE)
    with pytest.raises(Mistake, match="no video track"):
        media.probe(tmp_path / "sound.wav")
    with media.VideoWriter(tmp_path / "out.mp4", fps=25, height=64, width=64) as video:
        video.write(np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3), np.uint8))
    data = (tmp_path / "out.mp4").read_bytes()
    half = len(data) // 2
    (tmp_path / "hurt.mp4").write_bytes(data[:half] + bytes(3000) + data[half + 3000 :])
    with pytest.raises(Mistake, match="damaged after frame"):
        list(media.read_video(tmp_path / "hurt.mp4"))


def coded(path, codec="libx264", pixels=None, aspect=None, trc=None, flags=0, pix_fmt="yuv420p", options=None):
    """A video of one picture, three times, through an encoder."""
    pixels = made.gradient(48, 64) if pixels is None else pixels
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=25, options={"crf": "1"} if codec == "libx264" else {})
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt, coder = pix_fmt, stream.codec_context
        if aspect:
            coder.sample_aspect_ratio = aspect
        if trc:
            coder.color_trc = trc
        coder.flags |= flags
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("aspect", [Fraction(16, 11), Fraction(12, 11), Fraction(8, 9), Fraction(1, 2)])
def test_pixels_become_square(tmp_path, aspect):
    info = media.probe(coded(tmp_path / "a.mp4", aspect=aspect))
    wide, high = max(aspect, Fraction(1)), max(1 / aspect, Fraction(1))
    assert (info.width, info.height) == (round(64 * wide), round(48 * high))
    seen = next(media.read_video(tmp_path / "a.mp4")).astype(int)
    np.testing.assert_allclose(seen, made.gradient(*seen.shape[:2]), atol=16)


def test_pixels_of_a_broken_header_are_refused(tmp_path):
    with pytest.raises(Mistake, match="0.2 times as wide as high"):
        media.probe(coded(tmp_path / "a.mp4", aspect=Fraction(1, 5)))


def test_odd_sizes_are_read(tmp_path):
    pixels = made.gradient(47, 61)
    for pix_fmt in ("yuv444p", "yuv420p"):
        seen = next(media.read_video(coded(tmp_path / "a.mkv", "ffv1", pixels, pix_fmt=pix_fmt)))
        assert seen.shape == pixels.shape
        np.testing.assert_allclose(seen.astype(int), pixels, atol=16)


@pytest.mark.parametrize(("options", "words"), [
    ({"trc": 16}, "high dynamic range .PQ."), ({"trc": 18}, "high dynamic range .HLG."),
    ({"flags": av.codec.context.Flags.interlaced_dct.value}, "is interlaced"),
])  # fmt: skip
def test_videos_that_would_come_out_wrong_are_refused(tmp_path, options, words):
    coded(tmp_path / "a.mp4", **options)
    with pytest.raises(Mistake, match=words):
        media.probe(tmp_path / "a.mp4")


def test_a_size_that_changes_is_refused(tmp_path):
    one = coded(tmp_path / "1.ts").read_bytes()
    (tmp_path / "2.ts").write_bytes(one + coded(tmp_path / "3.ts", pixels=made.gradient(32, 32)).read_bytes())
    with pytest.raises(Mistake, match="change size|damaged"):
        list(media.read_video(tmp_path / "2.ts"))


# What is done to the pixels, and the matrix a b c d of x' = a x + c y, y' = b x + d y that says so.
MATRICES = {
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (-1, 0, 0, -1): lambda p: p[::-1, ::-1],
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (0, -1, 1, 0): lambda p: np.rot90(p),
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, -1, -1, 0): lambda p: np.rot90(p, 2).swapaxes(0, 1),
}


@pytest.mark.parametrize("turn", MATRICES)
def test_turned_and_mirrored_videos_are_upright(tmp_path, turn):
    pixels = made.gradient(48, 64)
    data = coded(tmp_path / "plain.mp4").read_bytes()
    seen = next(media.read_video(phone(tmp_path, data, turn))).astype(int)
    np.testing.assert_allclose(seen, MATRICES[turn](pixels), atol=16)


def test_a_tilted_video_is_refused(tmp_path):
    data = coded(tmp_path / "plain.mp4").read_bytes()
    with pytest.raises(Mistake, match="no right angle"):
        media.probe(phone(tmp_path, data, (0.7, 0.7, -0.7, 0.7)))


def phone(tmp_path, data, turn):
    """The same MP4 with a matrix (of 16.16 numbers) in its track header."""
    a, b, c, d = (struct.pack(">i", round(x * 65536)) for x in turn)
    place, zero = data.index(b"tkhd") + 44, b"\0\0\0\0"
    matrix = a + b + zero + c + d + zero * 3 + b"\x40\0\0\0"
    (tmp_path / "phone.mp4").write_bytes(data[:place] + matrix + data[place + 36 :])
    return tmp_path / "phone.mp4"


def test_joined_videos_are_refused(tmp_path):
    one = coded(tmp_path / "1.mp4").read_bytes()
    (tmp_path / "2.mp4").write_bytes(one + one)
    with pytest.raises(Mistake, match="several files joined"):
        media.probe(tmp_path / "2.mp4")
