"""How a model wants to be sampled: `sampling.json`, as `sampling.defaults.SamplingDefaults` reads it.

A run knows size, frame rate and window of its data and the shift of its noise levels; all else is as the model
directory that it began with says.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.data.sources.records import RecordReader
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import PIXELS_PER_LATENT, latent_frames
from stableavatar_jax.sampling.defaults import DEFAULTS_FILE
from stableavatar_jax.training.parts.config import TrainConfig
from stableavatar_jax.training.parts.distil_config import DistilConfig

OVERLAP = 10
"""Latent frames that two windows of 21 share (paper: 5 to 15)."""


def of_data(config: TrainConfig) -> dict[str, Any]:
    """Sampling defaults after training on the config's records or clips: those of most of them."""
    told = read(config.checkpoint) if config.checkpoint else {}
    window, height, width, fps = _most_frequent(config)
    frame, denoising = told.setdefault("frame", {}), told.setdefault("denoising", {})
    frame |= {"height": height, "width": width, "fps": fps}
    windows = denoising.setdefault("windows", {})
    overlap = min(windows.get("overlap", OVERLAP), window // 2)
    windows |= {"window": window, "overlap": overlap if overlap >= 2 else 0}
    denoising["shift"] = config.step.shift
    return told | {"denoising": denoising | _of_student(config)}


def _of_student(config: TrainConfig) -> dict[str, Any]:
    """What a distilled student changes in how its teacher is sampled."""
    if not isinstance(config, DistilConfig):
        return {}
    *levels, _ = config.student.levels(config.step.shift) or (0.0,)
    few = {"solver": "euler", "steps": len(levels), "fewer": {"levels": [round(level, 6) for level in levels]}}
    return {"guidance": "none"} | (few if levels else {})


def _most_frequent(config: TrainConfig) -> tuple[int, int, int, float]:
    """Latent frames, rows, columns and frame rate of most windows; the first of equals."""
    if config.data:
        records = RecordReader(config.data)
        found = Counter((*line["shapes"]["latents_mean"][:3], line["fps"]) for line in records.index)
        (frames, height, width, fps), _ = found.most_common(1)[0]
        stride = records.meta.get("window", {}).get("stride", 1)
        return frames, height * PIXELS_PER_LATENT, width * PIXELS_PER_LATENT, fps / stride
    assert config.clips  # seen to by the part's check
    clips = ClipDataset(config.clips).entries
    sizes = Counter((*config.window.size_of(each["height"], each["width"]), each["fps"]) for each in clips)
    (height, width, fps), _ = sizes.most_common(1)[0]
    return latent_frames(config.window.frames), height, width, fps / config.window.stride


def read(folder: Path) -> dict[str, Any]:
    """The sampling defaults of a model or run directory, empty where it has none; raises Mistake for damaged ones."""
    path = folder / DEFAULTS_FILE
    if not path.is_file():
        return {}
    try:
        told = json.loads(path.read_text())
    except ValueError as error:
        raise Mistake(f"{path}: not valid JSON ({error}); write it again, or remove it") from None
    if not isinstance(told, dict):
        raise Mistake(f"{path}: an object with `frame` and `denoising` is needed; write it again, or remove it")
    return told
