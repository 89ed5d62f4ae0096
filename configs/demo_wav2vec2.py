"""Training of the demo's audio encoder on synthetic speech; on two CPU cores.

    python train.py --part wav2vec2 --config demo_wav2vec2 --clips DIR --run-dir DIR --steps N

Wanted: `probe_r` above 0.9 on voices never trained on (`--validate-every 500 --held-out TEST`).
"""

from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import Wav2Vec2TrainConfig

from .models import demo

config = Wav2Vec2TrainConfig(
    model=demo,
    optimizer=OptimizerConfig(
        kind="muon", learning_rate=2e-3, warmup=100, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, clip=(1.0, 1.0),
        clip_spikes=False, ema=0.999,
    ),
)  # fmt: skip
