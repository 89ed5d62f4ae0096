"""The threshold of `check`, measured on characters that training never used."""

import numpy as np

from stableavatar_jax.compiling import keep_compiled
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.demo import preset
from stableavatar_jax.demo.config import Threshold
from stableavatar_jax.demo.nearness import Nearness, fit, gains, write_nearness
from stableavatar_jax.evaluation.video import load_codec


def measure(config: Threshold) -> None:
    """Write the file of the model directory, and print it. Raises Mistake for clips or weights that cannot be read."""
    keep_compiled()
    clips = ClipDataset(config.clips)
    pictures = [fit(clips[number].pictures([0])[0], preset.config.frame) for number in range(len(clips))]
    found = gains(load_codec(config.checkpoint), pictures)
    threshold = np.percentile(found, config.percentile) - config.margin
    nearness = Nearness(
        threshold=round(float(threshold), 2), characters=len(found),
        lowest=round(float(found.min()), 2), median=round(float(np.median(found)), 2),
    )  # fmt: skip
    print(nearness, write_nearness(config.checkpoint, nearness), sep="\n")
