"""The small avatar that comes with the package: talking cartoon characters, 96x96 pixels, made in minutes on a CPU.

    python sample.py --config configs/demo.py --image picture.png --audio speech.wav --output talk.mp4

docs/demo.md says how it was trained and what it can do.
"""

from pathlib import Path

import stableavatar_jax
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.sampling.config import SampleConfig

from .models import demo

MODEL = Path(stableavatar_jax.__path__[0]) / "demo" / "model"

config = SampleConfig(
    model=demo, checkpoint=MODEL, prompt="A person is talking", height=96, width=96, enlarge=4,
    windows=WindowConfig(window=9, overlap=3), steps=16, shift=3.0, w1=0.5, w2=0.0, dtype="float32",
)  # fmt: skip
