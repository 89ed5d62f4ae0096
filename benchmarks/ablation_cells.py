"""What a table has measured, and the videos that others are compared with, kept in its output folder."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.config import to_json
from stableavatar_jax.errors import Mistake
from stableavatar_jax.sampling.config import Denoising
from stableavatar_jax.sampling.fewer import Fewer
from stableavatar_jax.shapes import UInt8
from stableavatar_jax.whole import whole

CELLS = "cells.jsonl"
Frames = UInt8[np.ndarray, "T H W 3"]


def frames_of(folder: Path, key: Mapping[str, Any], make: Callable[[], Frames]) -> Frames:
    """The frames of a cell, from `folder/frames`, or made now and kept there."""
    path = folder / "frames" / f"{hashlib.sha256(as_text(key).encode()).hexdigest()[:16]}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = make()
        with whole(path) as partial, partial.open("wb") as file:
            np.save(file, frames)
    return np.load(path, mmap_mode="r")


def decisive(denoising: Denoising) -> dict[str, Any]:
    """The options on which the frames depend; how windows are batched is none."""
    names = ["guidance", "steps", "solver", "shift"]
    names += {"none": [], "cfg": ["text_scale", "audio_scale", "cfg_null"], "audio_native": ["w1", "w2"]}[
        denoising.guidance
    ]
    windows = denoising.windows
    joined = ["window", "overlap", *(["fusion", "first_fused_step"] if windows.overlap else [])]
    told = {name: value for name, value in to_json(denoising.fewer).items() if value != to_json(Fewer())[name]}
    told |= {name: getattr(denoising, name) for name in names}
    return told | {name: getattr(windows, name) for name in joined}


def as_text(key: Mapping[str, Any]) -> str:
    """A key as it stands in the file."""
    return json.dumps(key, sort_keys=True)


def read_cells(path: Path) -> dict[str, dict[str, float]]:
    """Measures by key, of the cells that are finished. Raises Mistake for a file of another kind."""
    if not path.is_file():
        return {}
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return {as_text(line["cell"]): line["measured"] for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise Mistake(f"{path}: no file of finished cells ({error}); move it away") from None


def write_cells(path: Path, cells: Mapping[str, Mapping[str, float]]) -> None:
    """Write all finished cells, whole or not at all."""
    with whole(path) as partial:
        rows = ({"cell": json.loads(key), "measured": measured} for key, measured in cells.items())
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
