"""Step caches for rows that leave steps out: measured once for each way of sampling, on the demo's own recording."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stableavatar_jax.config import to_json
from stableavatar_jax.demo.preset import PICTURE, SPEECH
from stableavatar_jax.sampling.calibration import about, read_calibration, write_calibration
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.whole import check_folder

SECONDS = 10.0
"""Seconds of the recording; none of the judged ones."""


def with_cache(folder: Path, avatar: Any, config: SampleConfig) -> SampleConfig:
    """The config with a cache that is valid for it, measured now where `folder` has none."""
    from stableavatar_jax.media import Samples
    from stableavatar_jax.sampling.job import Job
    from stableavatar_jax.sampling.measured import calibrated

    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = to_json(about(config.denoising, config.frame) | {"weights": avatar.fingerprint})
    for path in folder.glob("cache-*.json"):
        if read_calibration(path).valid_for == wanted:
            return change(config, cache=path)
    job = Job(
        picture=Image.open(PICTURE), sound=Samples(np.zeros(1600, np.float32)), prompt=config.inputs.prompt,
        negative_prompt=config.inputs.negative_prompt, frame=config.frame, denoising=config.denoising,
    )  # fmt: skip
    path = folder / f"cache-{len(list(folder.glob('cache-*.json')))}.json"
    write_calibration(path, calibrated(avatar, job, [SPEECH], SECONDS))
    return change(config, cache=path)
