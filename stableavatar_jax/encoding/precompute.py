"""Encode every clip of a data set once, so that training runs the transformer alone."""

import logging
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from tqdm import tqdm

from stableavatar_jax.config import read_config, to_json
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.config import ClipWindow, MissingMasks, OnBad
from stableavatar_jax.data.order import Batch
from stableavatar_jax.data.sources.records import FIELDS, Dtype, Format, RecordWriter
from stableavatar_jax.data.sources.windows import check_window, window_starts
from stableavatar_jax.encoding.online import WindowEncoder
from stableavatar_jax.encoding.windows import clip_window, window_arrays
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import load_preset

POSTERIORS = ("latents_mean", "latents_logvar", "reference_mean", "reference_logvar")


@dataclass(frozen=True, kw_only=True)
class PrecomputeConfig:
    """Encode the windows of a data set with the frozen encoders."""

    data: Path
    """Data set of clips, made by `build`."""
    output: Path
    """Folder for the records; those that are there already are kept."""
    checkpoint: Path | None = None
    """Model directory with vae, umt5, clip_vision and wav2vec2."""
    config: Path | None = None
    """Preset whose model gets random weights, such as `tiny`, as a smoke test in place of a checkpoint."""
    window: tyro.conf.OmitArgPrefixes[ClipWindow] = field(default_factory=ClipWindow)
    """What a training window is."""
    windows_per_clip: int = 4
    """Number of windows taken from a clip; fewer where the clip is too short for so many."""
    starts: Literal["even", "drawn"] = "even"
    """Where windows begin: evenly spaced from the clip's first frame to its last, or drawn by the clip's name."""
    format: Format = "npz"
    """Files of the records: `npz` has one for each record, `array_record` few in all."""
    dtype: Dtype = "bfloat16"
    """Dtype in which text, image and audio features and the masks are stored."""
    latents_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Dtype in which the VAE's means and log variances are stored."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype in which the encoders run, except for the text encoder, which runs in bfloat16."""
    on_bad: OnBad = "error"
    """A clip that is too short or damaged ends the run, or is left out, counted and logged."""
    missing_masks: MissingMasks = "error"
    """A clip without masks ends the run, is left out, or (`ones`) counts as all face and all lips."""
    worker: int = 0
    """Number of this process, from 0, where several share the work and the output."""
    workers: int = 1
    """Number of processes that share the work."""
    seed: int = 0
    """Seed of random weights."""

    def __post_init__(self):
        if self.windows_per_clip < 1 or not 0 <= self.worker < self.workers:
            raise Mistake("windows_per_clip must be at least 1, and worker one of 0..workers - 1")


def precompute(config: PrecomputeConfig) -> Tally:
    """Write the records of a data set; returns what was left out. Raises Mistake."""
    if config.checkpoint:
        model = read_config(config.checkpoint, AvatarConfig)
    elif config.config:
        model = load_preset(config.config, AvatarConfig)
        logging.getLogger(__name__).warning("no --checkpoint: the encoders' weights are random, the records are noise")
    else:
        raise Mistake("give --checkpoint DIR with the encoders, or --config configs/tiny.py for random weights")
    clips = ClipDataset(config.data)
    tally = Tally(config.on_bad, config.missing_masks)
    with RecordWriter(config.output, describe(config, model), worker=config.worker) as writer:
        windows = plan_windows(clips, config, tally)
        todo = [(number, start) for number, start in windows if _name(clips, number, start) not in writer.done]
        if not windows:
            raise Mistake(f"{config.data}: no clip is as long as a window, {config.window.span} frames: {tally}")
        if not todo:
            return tally
        encode = WindowEncoder(
            model, config.checkpoint, prompts=clips.prompts, dtype=config.compute_dtype, seed=config.seed
        )
        with tqdm(total=len(windows), initial=len(windows) - len(todo), desc="windows", unit="window") as progress:
            for number, start, batch in read_ahead(clips, todo, config.window, tally):
                if batch:
                    record = {name: array[0] for name, array in encode(batch).items()}
                    entry = clips.entries[number]
                    about = {"kind": entry["kind"], "fps": entry["fps"], "start": start}
                    writer.write(_name(clips, number, start), record, about)
                progress.update()
    return tally


def plan_windows(clips: ClipDataset, config: PrecomputeConfig, tally: Tally) -> list[tuple[int, int]]:
    """Number of the clip and first frame of every window that this process is to encode."""
    found = []
    for number in range(config.worker, len(clips), config.workers):
        entry = clips.entries[number]
        try:
            check_window(entry["id"], entry["frames"], config.window)
        except Mistake as error:
            tally.refuse(error)
            continue
        rng = _rng(entry["id"]) if config.starts == "drawn" else None
        starts = window_starts(entry["frames"], config.window, config.windows_per_clip, rng)
        found += [(number, start) for start in starts]
    return found


def read_ahead(
    clips: ClipDataset, windows: list[tuple[int, int]], config: ClipWindow, tally: Tally
) -> Iterator[tuple[int, int, Batch | None]]:
    """The windows as batches of one; the next is decoded while one is encoded. None where the tally leaves one out."""

    def read(number: int, start: int) -> Batch:
        clip = clips[number]
        arrays = window_arrays(clip_window(clip, start, config, _rng(clip.id, start), tally), config, clips.prompts)
        return {name: np.asarray(array)[None] for name, array in arrays.items()}

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(read, *windows[0])
        for place, (number, start) in enumerate(windows):
            now = coming
            if place + 1 < len(windows):
                coming = pool.submit(read, *windows[place + 1])
            try:
                yield number, start, now.result()
            except Mistake as error:
                tally.refuse(error)
                yield number, start, None


def describe(config: PrecomputeConfig, model: AvatarConfig) -> dict[str, Any]:
    """What all records have in common; records made otherwise do not go into the same folder."""
    dtypes = {name: config.latents_dtype if name in POSTERIORS else config.dtype for name in FIELDS}
    return {
        "format": config.format,
        "dtypes": dtypes | {"text_mask": "bool"},
        "window": to_json(config.window),
        "windows_per_clip": config.windows_per_clip,
        "starts": config.starts,
        "encoders": {name: to_json(getattr(model, name)) for name in ("vae", "umt5", "clip_vision", "wav2vec2")},
        "after_picture": model.after_picture,
        "weights": str(config.checkpoint) if config.checkpoint else f"random, seed {config.seed}",
        "compute_dtype": config.compute_dtype,
    }


def _rng(clip: str, *more: int) -> np.random.Generator:
    """Random numbers of a clip, by its name, so that a run that goes on draws what the killed one drew."""
    return np.random.default_rng([zlib.crc32(clip.encode()), *more])


def _name(clips: ClipDataset, number: int, start: int) -> str:
    return f"{clips.entries[number]['id']}@{start}"
