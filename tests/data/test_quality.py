"""What is measured of a raw clip: cuts, motion of the border, loudness, evenness of its frames."""


import numpy as np
import pytest

from stableavatar_jax.data.clips import quality
from tests.data import made


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
