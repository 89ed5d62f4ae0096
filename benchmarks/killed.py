"""Kills `sample.py` at random moments and starts it again, until its video is whole: none of that may show.

    python -m benchmarks.killed --kills 20 -- --config demo --image face.png --audio speech.wav

What follows `--` are options of sample.py; with `--stdin FILE` and `--audio -` the sound is live, and no latents are
kept. First the video is made twice without interruption (the first time, programs are compiled). Then it is made
again, with SIGKILL at moments that are drawn evenly over the time of the second run, counted from the line that tells
the plan. Where a video is whole before so many kills, another is begun. Latents, frames and sound must be equal, and so
must the files, byte for byte. The exit status is 1 where they are not.
"""

import argparse
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax import media
from stableavatar_jax.locks import hidden

START = """
import sys
from stableavatar_jax.sampling import restart
from stableavatar_jax.sampling.__main__ import main
restart.SAVE_EVERY = float(sys.argv.pop(1))
sys.exit(main())
"""


@dataclass(frozen=True)
class Command:
    """How sample.py is called."""

    options: Sequence[str]
    save_every: float
    """Seconds between two savings of the state."""
    stdin: Path | None = None
    """What is piped to it."""

    def open(self, output: Path, **pipes: Any) -> subprocess.Popen[bytes]:
        """Start it. The latents go beside the output, save those of a live sound."""
        files = ["--output", str(output)]
        if self.stdin is None:
            files += ["--latents", str(output.with_suffix(".npy"))]
        with (self.stdin or Path(os.devnull)).open("rb") as stdin:
            command = [sys.executable, "-c", START, str(self.save_every), *self.options, *files]
            return subprocess.Popen(command, stdin=stdin, **pipes)


def run(command: Command, output: Path, delay: float | None = None) -> float | None:
    """Run sample.py and kill it so many seconds after its first line; the seconds that it took, None if killed.

    Raises RuntimeError with what it said where it failed.
    """
    with tempfile.TemporaryFile("w+") as told, command.open(output, stdout=subprocess.PIPE, stderr=told) as process:
        assert process.stdout
        process.stdout.readline()
        begun = time.perf_counter()
        try:
            process.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None
        if process.returncode:
            told.seek(0)
            raise RuntimeError(told.read()[-2000:])
    return time.perf_counter() - begun


def killed(command: Command, output: Path, delays: Iterator[float]) -> Iterator[str]:
    """Make a video in a run that is killed after each delay; what lay there after each kill."""
    for delay in delays:
        if run(command, output, delay) is not None:
            return
        yield f"killed after {delay:5.1f} s: {left(output)}"
    run(command, output)


def left(output: Path) -> str:
    """What a run that was killed has left, in words."""
    folder = hidden(output, ".run")
    segments = len(list(folder.glob("segment-*.mp4")))
    kept = [path.stem for path in (folder / "conditions.safetensors", folder / "state.safetensors") if path.exists()]
    return ", ".join([*kept, f"{segments} segments", *(["the video"] if output.exists() else [])])


def differences(one: Path, other: Path) -> list[str]:
    """What of two videos and their latents is not equal, in words."""
    found = []
    a, b = one.with_suffix(".npy"), other.with_suffix(".npy")
    if a.exists() and not np.array_equal(np.load(a), np.load(b)):
        found.append("latents")
    pairs = itertools.zip_longest(media.read_video(one), media.read_video(other))
    if not all(a is not None and b is not None and np.array_equal(a, b) for a, b in pairs):
        found.append("frames")
    if not np.array_equal(media.read_sound(one), media.read_sound(other)):
        found.append("sound")
    return found or ([] if one.read_bytes() == other.read_bytes() else ["bytes of the file"])


def main() -> int:
    """Print a line for each kill and each video; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how often a run is killed")
    parser.add_argument("--save-every", type=float, default=1.0, help="seconds between two savings of the state")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--stdin", type=Path, help="file that is piped to the run, for `--audio -`")
    parser.add_argument("options", nargs="+", help="options of sample.py, after `--`")
    args = parser.parse_args()
    command = Command(args.options, args.save_every, args.stdin)
    draw, done, status = random.Random(args.seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        videos = (Path(folder) / f"{number}.mp4" for number in itertools.count())
        whole, output = next(videos), next(videos)
        run(command, whole)
        taken = run(command, output)
        assert taken
        print(f"without interruption: {taken:.1f} s", flush=True)
        while True:
            unequal = differences(whole, output)
            status |= bool(unequal)
            print("whole; " + (f"NOT EQUAL: {', '.join(unequal)}" if unequal else "equal to the first"), flush=True)
            if done == args.kills:
                return status
            output = next(videos)
            delays = (draw.uniform(0, taken) for _ in range(args.kills - done))
            for line in killed(command, output, delays):
                done += 1
                print(f"{done:2d} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
