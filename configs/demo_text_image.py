"""Training of the demo's text and image encoder, on two CPU cores.

    python train.py --part text_image --config demo_text_image --clips DIR --run-dir DIR --steps 500
"""

from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import TextImageTrainConfig

from .models import demo

config = TextImageTrainConfig(
    model=demo, batch=64,
    optimizer=OptimizerConfig(
        kind="muon", learning_rate=3e-3, warmup=20, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, clip=(1.0, 1.0),
        clip_spikes=False, ema=0.98,
    ),
)  # fmt: skip
