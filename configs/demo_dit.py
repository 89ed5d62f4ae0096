"""Training of the demo's transformer on two CPU cores, from records of 33 frames that the demo's encoders made.

    python train.py --config demo_dit --checkpoint MODEL --data RECORDS --run-dir DIR --steps N
"""

from stableavatar_jax.diffusion.config import LossConfig
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import StepConfig, TrainConfig

from .models import demo

config = TrainConfig(
    model=demo,
    train="all",
    batch=8,
    # Every token reads the slot of its own frame alone: tokens of a clip that are all read at once have no order.
    step=StepConfig(shift=3.0, clip_level=0.0, loss=LossConfig(motion=0.1)),
    optimizer=OptimizerConfig(
        kind="muon", learning_rate=4e-3, warmup=100, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, clip=(1.0, 1.0),
        clip_spikes=False, ema=0.999,
    ),
    dtype="float32",
    remat="none",
)  # fmt: skip
