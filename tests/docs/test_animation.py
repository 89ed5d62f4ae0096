"""The moving picture of the README, and the command that makes it."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.data import made
from tests.docs.blocks import ROOT


def animation(*options):
    command = [sys.executable, str(ROOT / "docs" / "animation.py"), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def left(shown, number):
    """The left edge of the bright square."""
    shown.seek(number)
    return (np.asarray(shown.convert("RGB"))[12, :, 0] > 130).argmax()


def test_it_shows_a_part_of_the_video(tmp_path):
    video = made.video(tmp_path / "a.mp4", 20)
    output = ["--output", tmp_path / "a.webp"]
    done = animation(video, *output, "--size", 32, "--start", 0.2, "--seconds", 0.4)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "a.webp") as shown:
        assert (shown.n_frames, shown.size, shown.info["loop"]) == (5, (32, 24), 0)
        at = [left(shown, number) for number in (0, 4)]
    assert at[1] - at[0] == pytest.approx(8 / 2, abs=1), "the square moves by a pixel a frame, here half as large"
    late = animation(video, *output, "--start", 9)
    assert late.returncode == 1 and "lasts 0.80 s" in late.stderr


def test_that_of_the_readme_moves_and_is_small():
    path = ROOT / "docs" / "demo.webp"
    with Image.open(path) as shown:
        assert shown.n_frames > 20 and shown.width >= 160
    assert path.stat().st_size < 500_000 and "(docs/demo.webp)" in (ROOT / "README.md").read_text(encoding="utf-8")
