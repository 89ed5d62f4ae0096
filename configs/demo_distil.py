"""Distillation of the demo's transformer on two CPU cores: its guidance first, then four steps.

    python train.py --part distil --config demo_distil --checkpoint MODEL --data RECORDS --run-dir GUIDED --steps N
    python train.py --run-dir GUIDED --export STUDENT
    python train.py --part distil --config demo_distil --checkpoint STUDENT --data RECORDS --run-dir FEW --steps N \\
        --student.steps 4 --student.substeps 4

docs/distillation.md says what was tried and reached.
"""

from stableavatar_jax.diffusion.config import LossConfig
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import StepConfig
from stableavatar_jax.training.parts.distil_config import DistilConfig

from .models import demo

config = DistilConfig(
    model=demo,
    train="all",
    batch=8,
    step=StepConfig(shift=3.0, silent=0.0, clip_level=0.0, loss=LossConfig(motion=0.1)),
    optimizer=OptimizerConfig(
        kind="muon", learning_rate=1e-3, warmup=20, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, clip=(1.0, 1.0),
        clip_spikes=False, ema=0.99,
    ),
    dtype="float32",
    remat="none",
)  # fmt: skip
