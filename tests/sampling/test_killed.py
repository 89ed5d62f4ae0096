"""A run that is killed by SIGKILL goes on to the same latents, frames and sound; see `benchmarks/killed.py`."""

import signal
import subprocess
import sys
import time

from benchmarks.killed import differences, left
from benchmarks.stub import recording, stub_video
from stableavatar_jax.configs import tiny
from stableavatar_jax.locks import hidden
from stableavatar_jax.sampling.config import change

SLOWLY = """
import sys, time
from pathlib import Path
from stableavatar_jax.sampling import restart
from tests.sampling.test_killed import video
restart.SAVE_EVERY = 0.1
video(Path(sys.argv[1]), Path(sys.argv[2]), lambda event: time.sleep(0.02))
"""


def video(sound, output, *listeners):
    """18 s in windows of 13 latent frames with the stub; its latents lie beside it."""
    stub_video(
        change(
            tiny.config, height=32, width=32, steps=3, window=13, overlap=5, order="wavefront", audio=sound,
            output=output, latents=output.with_suffix(".npy"),
        ),
        *listeners,
    )  # fmt: skip


def test_a_killed_run_goes_on(tmp_path):
    sound, whole, output = recording(tmp_path / "noise.wav", 18), tmp_path / "whole.mp4", tmp_path / "out.mp4"
    video(sound, whole)
    for least in (1, 5):
        command = [sys.executable, "-c", SLOWLY, str(sound), str(output)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while len(list(hidden(output, ".run").glob("segment-*.mp4"))) < least:
                assert process.poll() is None
                time.sleep(0.01)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert not output.exists() and "state" in left(output)
    video(sound, output)
    assert differences(whole, output) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "noise.wav", "out.mp4", "out.npy", "whole.mp4", "whole.npy"
    ]  # fmt: skip
