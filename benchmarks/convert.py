"""The 1.3B transformer through real files: import and export, their speed beside a plain copy, and their memory.

    python benchmarks/convert.py --folder DIR

DIR needs about 20 GB; what is written there goes again. In DIR a StableAvatar file of the real size is made (3.5 GB in
bfloat16), imported into a model directory and exported again, each in a process of its own whose anonymous memory is
watched. The two files are compared byte for byte. The copy is Python's `shutil.copyfile` of the same file.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from stableavatar_jax import commands
from stableavatar_jax.configs.models import avatar_1b
from stableavatar_jax.convert import parts
from stableavatar_jax.weights.formats.pth_writer import write_pth
from stableavatar_jax.weights.formats.tensors import LazyTensor
from stableavatar_jax.weights.names.dit import STABLEAVATAR

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Import and export the 1.3B transformer through real files."""

    folder: Path
    """Where about 20 GB are written for a while."""

    def run(self) -> int:
        """Print time and memory of each step; status 1 if the file that comes out is not the one that went in."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            place = Path(scratch)
            first, second, model = place / "first.pt", place / "second.pt", place / "model"
            _make(first)
            size, convert = first.stat().st_size, [sys.executable, "-m", "stableavatar_jax.convert"]
            idle, _ = _watched([*convert, "inspect", str(first)])
            print(f"{size / 1e9:.2f} GB; the interpreter alone, with all it imports: {idle / 1e9:.2f} GB", flush=True)
            for name, source, command in (
                ("import", first, ["import", "--part", "dit", "--source", str(first), "--output", str(model)]),
                (
                    "export",
                    model / "dit.safetensors",
                    ["export", "--part", "dit", "--source", str(model), "--output", str(second)],
                ),
            ):
                copy = _copied(source, place / "copy")
                peak, seconds = _watched([*convert, *command])
                print(
                    f"{name}: {seconds:.1f} s, {size / seconds / 1e9:.2f} GB/s; a copy takes {copy:.1f} s; "
                    f"anonymous memory {(peak - idle) / 1e9:.2f} GB above the interpreter's", flush=True,
                )  # fmt: skip
            same = _hold_the_same(first, second)
            print("the exported file holds what was imported, bit for bit" if same else "THE FILES DIFFER")
            return 0 if same else 1


def _make(path: Path) -> None:
    """A StableAvatar file of the real size, of numbers without a period that a layout could hide in."""
    block = np.random.default_rng(0).integers(0, 1 << 15, 1048573, np.uint16).view(BFLOAT16)
    shapes = parts.part("dit", avatar_1b).shapes(STABLEAVATAR)
    make = lambda number, shape: lambda: np.resize(np.roll(block, 977 * number), shape)  # noqa: E731
    write_pth(path, {key: LazyTensor(s, BFLOAT16, make(i, s)) for i, (key, s) in enumerate(shapes.items())})


def _watched(command: list[str]) -> tuple[int, float]:
    """Peak of a process's anonymous memory in bytes, looked at every 20 ms, and its seconds."""
    start, peak = time.monotonic(), 0
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
    return peak, time.monotonic() - start


def _copied(source: Path, to: Path) -> float:
    """Seconds of a plain copy, which goes again."""
    start = time.monotonic()
    shutil.copyfile(source, to)
    seconds = time.monotonic() - start
    to.unlink()
    return seconds


def _hold_the_same(first: Path, second: Path) -> bool:
    with first.open("rb") as a, second.open("rb") as b:
        return all(
            p == q for p, q in zip(iter(lambda: a.read(1 << 24), b""), iter(lambda: b.read(1 << 24), b""), strict=True)
        )


if __name__ == "__main__":
    sys.exit(commands.main(Benchmark))
