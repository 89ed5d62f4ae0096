"""A list of videos beside one warm process that makes them one by one, on the tiny model.

    python -m benchmarks.jobs --videos 200 --bad 10

The tiny preset at 32x32 with windows of 5 latent frames, of which 2 are shared. Recordings have 0.2 to 1 s, one to
three windows; of every twenty videos one has a damaged picture, a missing recording, broken conditions or an option
that is none. The list is made by the command, in this process and after a first one that compiles; then the same good
videos are made one by one with the same avatar. `--seconds 0.2` makes videos of one window alone. Ends with status 1
where a video is missing, a cause is not named, or too many rows are evaluated.
"""

import contextlib
import dataclasses
import io
import json
import re
import statistics
import sys
import tempfile
import time
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stableavatar_jax import commands
from stableavatar_jax.configs import tiny
from stableavatar_jax.diffusion.order import MOST_WASTE
from stableavatar_jax.encoding.conditions import save_conditions
from stableavatar_jax.sampling import jobs
from stableavatar_jax.sampling.__main__ import main
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.sampling.deliver import deliver
from stableavatar_jax.sampling.job import about, open_job

OPTIONS = {
    "height": 32, "width": 32, "guidance": "none", "window": 5, "overlap": 2, "batches": 1, "dtype": "float32"
}  # fmt: skip
BAD = {
    "damaged.png": {"image": "damaged.png"},
    "no such file": {"audio": "nowhere.wav"},
    "not finite": {"audio": "0.2.wav", "conditions": "broken.safetensors"},
    "did you mean euler": {"solver": "eular"},
}
"""What makes a video fail, and the words that its error file must have."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Make a list of videos, and the same videos one by one, and compare the time."""

    videos: int = 200
    """Videos of the list."""
    bad: int = 10
    """Videos of it that cannot be made."""
    steps: int = 4
    """Denoising steps."""
    seconds: tuple[float, ...] = (0.2, 0.4, 1.0)
    """Lengths of the recordings, in turn."""
    rounds: int = 3
    """How often each way is measured, in turn; the medians are compared."""

    def run(self) -> int:
        """Print the ratio; status 1 where the list is not what it must be."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            config = change(tiny.config, **OPTIONS, steps=self.steps, random_weights=True, image=folder / "face.png")
            avatar = Avatar(config.model, dtype="float32", keep=True)
            jobs.open_avatar = lambda *_: avatar  # type: ignore[assignment]  # weights are drawn once for all rounds
            lines = self._inputs(folder, config, avatar)
            good = [line for line in lines if not any(line.items() >= each.items() for each in BAD.values())]
            first = self._list(folder, lines, "warm")
            if problem := self._wrong(folder / "warm", lines, first):
                print(problem)
                return 1
            _one_by_one(folder, config, good[:3], avatar, "alone-warm")
            taken: dict[str, list[tuple[float, float]]] = {"list": [], "one by one": []}
            for number in range(self.rounds):
                begun = time.perf_counter(), time.process_time()
                self._list(folder, lines, f"list-{number}")
                taken["list"].append(_since(begun))
                begun = time.perf_counter(), time.process_time()
                _one_by_one(folder, config, good, avatar, f"alone-{number}")
                taken["one by one"].append(_since(begun))
            median = lambda times: [statistics.median(each) for each in zip(*times, strict=True)]  # noqa: E731
            middle = {way: median(times) for way, times in taken.items()}
            for way, (wall, cores) in middle.items():
                print(f"{way}: {wall:.1f} s, {cores:.1f} s of a core")
            wall, cores = (one / other for one, other in zip(middle["one by one"], middle["list"], strict=True))
            print(f"the list has {wall:.2f} of the throughput by the clock, {cores:.2f} by the time of cores")
            return 0

    def _inputs(self, folder: Path, config: SampleConfig, avatar: Avatar) -> list[dict]:
        """Pictures and recordings, and the lines of the list."""
        pixels = np.random.default_rng(0).integers(0, 255, (80, 70, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "face.png")
        (folder / "damaged.png").write_bytes((folder / "face.png").read_bytes()[:2000])
        for seconds in {0.2, *self.seconds}:
            tone = 9000 * np.sin(np.arange(round(16000 * seconds)) * 0.05)
            with wave.open(str(folder / f"{seconds}.wav"), "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
                file.writeframes(tone.astype("<i2").tobytes())
        job = open_job(change(config, audio=folder / "0.2.wav"))
        [made] = avatar.conditions([job], sound=True)
        broken = dataclasses.replace(made, image=made.image * np.nan)
        save_conditions(folder / "broken.safetensors", broken, about(job))
        lines = []
        for number in range(self.videos):
            lines.append({"audio": f"{self.seconds[number % len(self.seconds)]}.wav", "seed": number})
        for number in range(self.bad):
            lines[(2 * number + 1) * self.videos // (2 * self.bad)] |= list(BAD.values())[number % len(BAD)]
        return lines

    def _list(self, folder: Path, lines: list[dict], name: str) -> str:
        """Make the list by its command; what was printed."""
        path = folder / "jobs.jsonl"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        given = {**OPTIONS, "steps": self.steps, "image": folder / "face.png"}
        given |= {"jobs": path, "output-dir": folder / name}
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
            status = main(["--config", "tiny", *(f"--{option}={value}" for option, value in given.items())])
        assert status == int(self.bad > 0), printed.getvalue()
        return printed.getvalue()

    def _wrong(self, output: Path, lines: list[dict], printed: str) -> str:
        """What is not as it must be of a list that was made."""
        errors = sorted(output.glob("*.error.txt"))
        videos = len(list(output.glob("*.mp4")))
        rows = re.search(r"([\d.]+) rows evaluated", printed)
        print(f"{videos} videos, {len(errors)} error files; {rows[0] if rows else 'no rows'} for each needed")
        if videos != self.videos - self.bad or len(errors) != self.bad:
            return f"{self.videos - self.bad} videos and {self.bad} error files are needed"
        for path in errors:
            line = lines[int(path.name.split(".")[0]) - 1]
            [words] = [words for words, options in BAD.items() if line.items() >= options.items()]
            if words not in path.read_text():
                return f"{path.name} does not name the cause: {path.read_text()}"
        return "" if rows and float(rows[1]) <= MOST_WASTE else f"at most {MOST_WASTE} rows for each needed are allowed"


def _since(begun: tuple[float, float]) -> tuple[float, float]:
    """Seconds by the clock, and of cores; the latter say more on a machine that does other work."""
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def _one_by_one(folder: Path, config: SampleConfig, lines: list[dict], avatar: Avatar, name: str) -> None:
    """The same videos in one warm process without a list."""
    (folder / name).mkdir()
    for number, line in enumerate(lines):
        audio, output = folder / line["audio"], folder / name / f"{number}.mp4"
        given = change(config, **{**line, "audio": audio, "output": output})
        job = open_job(given)
        denoising = given.denoising.settled(job.windows)
        deliver(change(given, denoising=denoising), dataclasses.replace(job, denoising=denoising), avatar)


if __name__ == "__main__":
    sys.exit(commands.main(Benchmark))
