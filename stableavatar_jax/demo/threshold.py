"""How near a picture has to be, measured on characters that were never trained on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stableavatar_jax.configs import demo
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.demo.nearness import Nearness, fit, gains, write_nearness
from stableavatar_jax.evaluation.video import load_codec


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Measure what `check` takes for near, and write it beside the weights.

    python -m stableavatar_jax.world build --output HELD --characters 200 --split test --seconds 0
    python -m stableavatar_jax.demo threshold --clips HELD
    """

    clips: Path
    """Held-out clips of the world; their first frames are looked at."""
    checkpoint: Path = demo.MODEL
    """Model directory."""
    percentile: float = 1.0
    """Of the characters' gains."""
    margin: float = 0.5
    """Decibels below it at which a picture begins to be far."""

    def run(self) -> None:
        """Write the file. Raises ValueError for clips or weights that cannot be read."""
        clips = ClipDataset(self.clips)
        pictures = [fit(clips[number].pictures([0])[0], demo.config) for number in range(len(clips))]
        found = gains(load_codec(self.checkpoint), pictures)
        threshold = np.percentile(found, self.percentile) - self.margin
        nearness = Nearness(
            threshold=round(float(threshold), 2), characters=len(found),
            lowest=round(float(found.min()), 2), median=round(float(np.median(found)), 2),
        )  # fmt: skip
        print(nearness, write_nearness(self.checkpoint, nearness), sep="\n")
