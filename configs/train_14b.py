"""Training of the 14B model: every block and the audio modules.

    python train.py --config train_14b --checkpoint weights/avatar_14b --data DIR --run-dir DIR --steps N

                       paper                   release                         here
    learning rate      1e-5                    1e-4                            1e-4
    schedule           not stated              constant, no warm-up            constant after 100 steps
    AdamW              not stated              0.9, 0.999, eps 1e-10, decay    as the release
                                               3e-2 on everything
    clipping           not stated              1.0 (DeepSpeed's own value;     1.0, no rule for spikes
                                               the script's 0.05 is not used)
    image features     not stated              zeroed in 10% of steps          zeroed in 10% of rows
    batch              1 a device, 64 devices  1 a device                      64 rows
    state              -                       DeepSpeed stage 2               weights, moments, average over fsdp

State of 300 GB over all devices. The audio projection, the masked padding and the sizes are the model's; the loss and
all else are as in train_1b.
"""

from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import StepConfig, TrainConfig

from .models import avatar_14b

config = TrainConfig(
    model=avatar_14b,
    batch=64,
    optimizer=OptimizerConfig(learning_rate=1e-4, clip=(1.0, 1.0), clip_spikes=False),
    step=StepConfig(blind=0.1),
)
