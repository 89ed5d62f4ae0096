"""Encode every clip of a data set once, so that training runs the transformer alone."""

import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from stableavatar_jax.config import read_config, to_json
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.config import ClipWindow
from stableavatar_jax.data.order import Batch
from stableavatar_jax.data.sources.records import FIELDS, RecordWriter
from stableavatar_jax.data.sources.windows import check_window, window_starts
from stableavatar_jax.encoding.config import PrecomputeConfig
from stableavatar_jax.encoding.online import WindowEncoder
from stableavatar_jax.encoding.windows import clip_window, window_arrays
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import PIXELS_PER_LATENT, latent_frames
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import load_preset
from stableavatar_jax.whole import check_folder
from stableavatar_jax.words import count

LOG = logging.getLogger(__name__)
POSTERIORS = ("latents_mean", "latents_logvar", "reference_mean", "reference_logvar")


def precompute(config: PrecomputeConfig) -> Tally:
    """Write the records of a data set; returns what was left out. Raises Mistake."""
    if config.checkpoint:
        model = read_config(config.checkpoint, AvatarConfig)
    else:
        assert config.config is not None  # seen to by the config
        model = load_preset(config.config, AvatarConfig)
        LOG.warning("no --checkpoint: the encoders' weights are random, the records are noise")
    clips = ClipDataset(config.data)
    check_folder(config.output, inputs=[config.data, config.checkpoint])
    tally = Tally(config.on_bad, config.missing_masks)
    windows = plan_windows(clips, config, tally)
    if not windows:
        raise Mistake(f"{config.data}: no clip is as long as a window, {config.window.span} frames (--frames): {tally}")
    print(describe_shapes(clips, windows, config), flush=True)
    with RecordWriter(config.output, describe(config, model), worker=config.worker) as writer:
        todo = [(number, start) for number, start in windows if _name(clips, number, start) not in writer.done]
        if todo:
            check_folder(config.output, space=len(todo) * _record_bytes(config, model))
            encode = WindowEncoder(
                model, config.checkpoint, prompts=clips.prompts, dtype=config.compute_dtype, seed=config.seed,
                report=lambda part: print(f"loading and compiling: {part}", flush=True),
            )  # fmt: skip
            with tqdm(total=len(windows), initial=len(windows) - len(todo), desc="windows", unit="window") as progress:
                for number, start, batch in read_ahead(clips, todo, config.window, tally):
                    if batch:
                        record = {name: array[0] for name, array in encode(batch).items()}
                        entry = clips.entries[number]
                        about = {"kind": entry["kind"], "fps": entry["fps"], "start": start}
                        writer.write(_name(clips, number, start), record, about)
                    progress.update()
    if not writer.done:
        raise Mistake(f"{config.data}: no record was made: {tally}")
    return tally


def describe_shapes(clips: Any, windows: list[tuple[int, int]], config: PrecomputeConfig) -> str:
    """How many windows there are of which shapes: training compiles a program for each shape."""
    counted = Counter[str]()
    for number, _ in windows:
        entry = clips.entries[number]
        height, width = config.window.size_of(entry["height"], entry["width"])
        counted[f"{height}x{width} at {entry['fps']:g} frames a second"] += 1
    shapes = "; ".join(f"{number} of {shape}" for shape, number in counted.most_common())
    advice = ""
    if len(counted) > 1:
        advice = ". Training compiles a program for each shape; `prepare --fps` and --sizes make them fewer"
    return f"{count(len(windows), 'window')} of {count(len(counted), 'shape')}: {shapes}{advice}"


def _record_bytes(config: PrecomputeConfig, model: AvatarConfig) -> int:
    """Bytes that a record has at least: those of its latents."""
    pixels = min(height * width for height, width in config.window.sizes) // PIXELS_PER_LATENT**2
    numbers = len(POSTERIORS) * latent_frames(config.window.frames) * pixels * model.vae.z_dim
    return numbers * (2 if config.latents_dtype == "bfloat16" else 4)


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
        "weights": str(config.checkpoint.resolve()) if config.checkpoint else f"random, seed {config.seed}",
        "compute_dtype": config.compute_dtype,
    }


def _rng(clip: str, *more: int) -> np.random.Generator:
    """Random numbers of a clip, by its name, so that a run that goes on draws what the killed one drew."""
    return np.random.default_rng([zlib.crc32(clip.encode()), *more])


def _name(clips: ClipDataset, number: int, start: int) -> str:
    return f"{clips.entries[number]['id']}@{start}"
