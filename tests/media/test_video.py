"""Videos that are read upright, or refused."""

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
