"""How well the video autoencoder alone keeps held-out characters."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stableavatar_jax import media
from stableavatar_jax.configs import demo
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation import gates
from stableavatar_jax.evaluation.report import finish, means
from stableavatar_jax.evaluation.sheet import film_strips, save
from stableavatar_jax.evaluation.video import Frames, load_codec
from stableavatar_jax.world.known import Known, speaking
from stableavatar_jax.world.measure import correlation, lip_psnr, mouth_opening


@dataclass(frozen=True, kw_only=True)
class Codec:
    """Send held-out clips through the video autoencoder and back, and measure what is left of them.

    python -m stableavatar_jax.demo codec --clips HELD
    """

    clips: Path
    """Held-out clips of the world."""
    checkpoint: Path = demo.MODEL
    """Model directory; only its video autoencoder is needed."""
    number: int = 8
    """Clips."""
    frames: int = 65
    """Of each, 1 + 4n."""
    output: Path = Path("outputs/codec")
    """Folder for report.json and sheet.png, in which what went in stands over what came out."""

    def __post_init__(self):
        if self.frames % 4 != 1 or self.number < 1:
            raise Mistake(f"frames is {self.frames}, 1 + 4n is needed, and number at least 1")

    def run(self) -> int:
        """Measure, print, write; returns 1 where a gate is missed."""
        codec = load_codec(self.checkpoint)
        rows, strips = {}, []
        for known in speaking(ClipDataset(self.clips), self.number):
            given = known.frames(self.frames)
            kept = media.postprocess(codec(given.astype(np.float32)[None] / 127.5 - 1)[0])
            rows[known.clip.id] = measure(kept, given, known)
            strips += [given, kept]
        save(self.output / "sheet.png", film_strips(strips))
        return finish(self.output, rows, means(rows), gates.CODEC, {"checkpoint": str(self.checkpoint)})


def measure(kept: Frames, given: Frames, known: Known) -> dict[str, float]:
    """Decibels of whole pictures and of the lips' region, and the correlation of the mouth seen with the true one."""
    lips, truth = known.lips(len(kept)), known.mouth.opening[: len(kept)]
    return {
        "psnr": lip_psnr(kept, given, np.ones_like(lips)),
        "lip_psnr": lip_psnr(kept, given, lips),
        "r": correlation(mouth_opening(kept, known.character).opening, truth).r,
    }
