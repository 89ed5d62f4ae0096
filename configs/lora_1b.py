"""LoRA of the 1.3B model: low-rank factors on every linear map outside the audio modules, and these modules in full.

    python train.py --config lora_1b --checkpoint weights/avatar_1b --data DIR --run-dir DIR --steps N

                       paper                   release                         here
    rank, alpha        no LoRA                 128, 64                         as the release
    initial factors    -                       down uniform, up zero           as the release
    trained besides    -                       audio modules                   as the release
    learning rate      -                       1e-4                            1e-4
    batch              -                       1 a device                      8 rows
    frozen weights     -                       bfloat16                        bfloat16
"""

from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import TrainConfig

from .models import avatar_1b

config = TrainConfig(
    model=avatar_1b, train="lora", batch=8, optimizer=OptimizerConfig(learning_rate=1e-4)
)
