"""Training of the tiny model, as a smoke test of the whole way from clips to a video: a minute on a laptop.

    python -m convert random --config tiny --output weights/tiny
    python train.py --config train_tiny --checkpoint weights/tiny --data records --run-dir runs/tiny
    python train.py --run-dir runs/tiny --export weights/trained

The records are made with `python -m stableavatar_jax.data precompute --frames 9 --sizes 64 64`. The model is far too
small to learn anything: its videos show noise.
"""

from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import TrainConfig

from .tiny import model

config = TrainConfig(
    model=model, train="all", batch=2, steps=20, checkpoint_every=10, log_every=5, dtype="float32", remat="none",
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup=5, clip=(1.0, 1.0), clip_spikes=False, ema=0.0),
)  # fmt: skip
