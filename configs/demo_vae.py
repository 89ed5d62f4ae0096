"""Training of the demo's video autoencoder, 96x96 pixels to latents of 12x12x16; on two CPU cores.

    python train.py --part vae --config demo_vae --clips DIR --run-dir DIR --steps N

Pictures first; videos then, from the weights that learned pictures (`--checkpoint`, `--crop.frames 9`).
"""

from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import VAELossConfig, VAETrainConfig

from .models import demo

config = VAETrainConfig(
    model=demo,
    loss=VAELossConfig(edge=0.5, motion=0.5),
    optimizer=OptimizerConfig(
        kind="muon", learning_rate=5e-3, warmup=50, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, clip=(1.0, 1.0),
        clip_spikes=False, ema=0.999,
    ),
)  # fmt: skip
