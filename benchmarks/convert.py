"""The 1.3B transformer through real files: import and export, their speed beside a plain copy, and their memory.

    python -m benchmarks.convert --folder DIR

DIR needs about 18 GB; what is written there goes again. In DIR a StableAvatar file of the real size is made (3.5 GB in
bfloat16), imported into a model directory and exported again, and the two files are compared byte for byte. The copy is
Python's `shutil.copyfile` of the same file. Copy, import and export take turns, each in a process of its own and each
after a pause. On a virtual machine, memory that a removed file gave back is written several times as fast as other
memory: so each round, which begins where the files of the last one were removed, begins with a copy that takes some of
it, and that the others are not compared with. Where the two copies differ, memory was unlike, and may have been between
the other steps too. The files that are read are in the page cache, and nothing waits for the disk. Medians are
printed.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from stableavatar_jax import commands
from stableavatar_jax.configs.models import avatar_1b
from stableavatar_jax.convert import parts
from stableavatar_jax.weights.formats.pth_writer import write_pth
from stableavatar_jax.weights.formats.tensors import LazyTensor
from stableavatar_jax.weights.names.dit import STABLEAVATAR

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
PAUSE = 5  # seconds between two steps


class Taken(NamedTuple):
    """What a process took."""

    seconds: float
    cpu: float
    """Seconds of one core."""
    memory: float
    """Peak of its anonymous memory in bytes."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Import and export the 1.3B transformer through real files."""

    folder: Path
    """Where about 18 GB are written for a while."""
    rounds: int = 3
    """How often each step is measured."""

    def run(self) -> int:
        """Print time and memory of each step; status 1 if the file that comes out is not the one that went in."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            place = Path(scratch)
            first, second, model = (place / name for name in ("first.pt", "second.pt", "model"))
            copies = [place / "copy-1", place / "copy-2"]
            _make(first)
            convert = [sys.executable, "-m", "stableavatar_jax.convert"]
            twice = [f"import shutil; shutil.copyfile({str(first)!r}, {str(copy)!r})" for copy in copies]
            steps = {
                "start": [*convert, "inspect", str(first)],
                "copy to memory just given back": [sys.executable, "-c", twice[0]],
                "copy": [sys.executable, "-c", twice[1]],
                "import": [*convert, "import", "--part", "dit", "--source", str(first), "--output", str(model)],
                "export": [*convert, "export", "--part", "dit", "--source", str(model), "--output", str(second)],
            }
            taken: dict[str, list[Taken]] = {name: [] for name in steps}
            for _ in range(self.rounds):
                for name, command in steps.items():
                    time.sleep(PAUSE)
                    taken[name].append(_watched(command))
                same = _hold_the_same(first, second)
                shutil.rmtree(model)
                for file in (*copies, second, second.with_name("second.pt.md")):  # the last is its card
                    file.unlink()
                if not same:
                    print("THE FILES DIFFER")
                    return 1
            _print(first.stat().st_size, taken)
            return 0


def _print(size: int, taken: dict[str, list[Taken]]) -> None:
    middle = {name: Taken(*map(statistics.median, zip(*each, strict=True))) for name, each in taken.items()}
    print(f"{size / 1e9:.2f} GB; the exported file holds what was imported, bit for bit")
    for name, each in middle.items():
        line = f"{name}: {each.seconds:.1f} s ({each.cpu:.1f} s of a core)"
        if name in ("import", "export"):
            above = (each.memory - middle["start"].memory) / 1e9
            line += f", {middle['copy'].seconds / each.seconds:.2f} of the copy's speed"
            line += f", anonymous memory {above:.2f} GB above the interpreter's"
        print(line)


def _make(path: Path) -> None:
    """A StableAvatar file of the real size, of numbers without a period that a layout could hide in."""
    block = np.random.default_rng(0).integers(0, 1 << 15, 1048573, np.uint16).view(BFLOAT16)
    shapes = parts.part("dit", avatar_1b).shapes(STABLEAVATAR)
    make = lambda number, shape: lambda: np.resize(np.roll(block, 977 * number), shape)  # noqa: E731
    write_pth(path, {key: LazyTensor(s, BFLOAT16, make(i, s)) for i, (key, s) in enumerate(shapes.items())})


def _watched(command: list[str]) -> Taken:
    """Run a process; its anonymous memory is looked at every 20 ms."""
    start, before, peak = time.monotonic(), os.times(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, 1024 * int(status.partition("RssAnon:")[2].split()[0]))
        except (OSError, IndexError):
            pass  # it has just ended
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Taken(time.monotonic() - start, cpu, peak)


def _hold_the_same(first: Path, second: Path) -> bool:
    with first.open("rb") as a, second.open("rb") as b:
        return all(
            p == q for p, q in zip(iter(lambda: a.read(1 << 24), b""), iter(lambda: b.read(1 << 24), b""), strict=True)
        )


if __name__ == "__main__":
    sys.exit(commands.main(Benchmark))
