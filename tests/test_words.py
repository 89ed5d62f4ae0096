"""Numbers in messages."""

from pathlib import Path

import pytest

from stableavatar_jax.sampling.progress import ending
from stableavatar_jax.words import count, duration, size


@pytest.mark.parametrize(
    "number, noun, told", [(0, "clip", "0 clips"), (1, "clip", "1 clip"), (2, "branch", "2 branches")]
)
def test_what_is_counted_agrees_with_its_number(number, noun, told):
    assert count(number, noun) == told


def test_sizes_and_times_in_their_own_units():
    assert [size(n) for n in (0, 150_000, 2_500_000, 4 * 10**9)] == ["0.0 kB", "150.0 kB", "2.5 MB", "4.0 GB"]
    told = {1.234: "1.23 s", 59.4: "59 s", 61: "1 min 1 s", 3700: "1 h 1 min", 90000: "1 d 1 h"}
    assert [duration(seconds) for seconds in told] == list(told.values())


def test_the_last_line_of_a_video_says_time_and_share_of_real_time():
    told = ending(Path("talk.mp4"), 10.0, 125.0)
    assert told == "talk.mp4: 10.00 s of video in 2 min 5 s, 0.08 of real time"
    assert ending(Path("talk.mp4"), 10.0, 125.0, 2.345).endswith("of real time; 2.35 frames a second once begun")
