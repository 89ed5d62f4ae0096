"""Sizes, clocks and rows that all sections of the benchmark share."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stableavatar_jax.configs import tiny
from stableavatar_jax.models.config import AvatarConfig


@dataclass(frozen=True)
class Size:
    """What is measured: a model and a window of video."""

    model: AvatarConfig
    frames: int
    """Latent frames."""
    rows: int
    """Latent rows."""
    columns: int
    """Latent columns."""
    repeats: int
    dtype: str = "bfloat16"

    @property
    def latents(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns."""
        return self.frames, self.rows, self.columns

    @property
    def tokens(self) -> int:
        """Tokens of the window."""
        return self.frames * self.rows * self.columns // 4


REAL = Size(AvatarConfig(tokenizer="bytes"), 21, 60, 104, 5)
"""The 1.3B model at 480x832, 81 frames."""
TINY = Size(tiny.model, 5, 4, 4, 3, "float32")
"""Small enough for the script to be tried on a CPU; its figures say nothing."""
SIZES = {"real": REAL, "tiny": TINY}


def milliseconds(run: Callable[[], Any], wait: Callable[[Any], Any], repeats: int) -> float:
    """The median of several runs after one that warms up; `wait` waits for what `run` gives."""
    wait(run())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        wait(run())
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


class Rows:
    """The figures of a section, written to a file as they come: what was measured stays when a later one fails."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, *, ms: float | None = None, flop: float | None = None, **more: Any) -> None:
        """One figure: time of a run, and the rate at which its operations were done."""
        row: dict[str, Any] = {"what": what}
        if ms is not None:
            row["ms"] = round(ms, 3)
        if ms is not None and flop is not None:
            row["tflops"] = round(flop / ms / 1e9, 1)
        self.rows.append(row | more)
        self.path.write_text(json.dumps(self.rows, indent=1) + "\n")
        print("  " + "  ".join(f"{name} {value}" for name, value in (row | more).items()), flush=True)


def gib(count: int) -> float:
    """Bytes in GiB, to two places."""
    return round(count / 2**30, 2)


def temporaries(compiled: Any) -> float:
    """GiB that a compiled program works in, beside what it is given and gives."""
    return gib(compiled.memory_analysis().temp_size_in_bytes)


