"""Training of the 1.3B model: every block and the audio modules, from Wan2.1-Fun-InP's or StableAvatar's weights.

    python train.py --config train_1b --checkpoint weights/avatar_1b --data DIR --run-dir DIR --steps N

                       paper                   release                         here
    trained            attention and adapter   every block, audio modules      as the release (--train paper)
    learning rate      1e-5                    2e-5 on 4 GPUs, 1e-4 on 64      2e-5; set it with the batch
    schedule           not stated              constant after 100 steps        as the release
    AdamW              not stated              0.9, 0.999, eps 1e-10, decay    as the release
                                               3e-2 on everything
    clipping           not stated              0.25 to 0.05 in 1000 steps,     as the release
                                               lower still for spikes
    batch              1 a device, 64 devices  1 a device                      64 rows
    length             20 epochs, 1200 hours   set by hand                     --steps
    motion loss        not stated              1/4, along channels by mistake  1/4, along time
    average (EMA)      not stated              none                            0.9999
    precision          not stated              bfloat16                        bfloat16, float32 master weights

State of 28 GB (float32 weights, two moments, average) over all devices; 860 TFLOP a row, 1110 with remat.
"""

from stableavatar_jax.training.parts.config import TrainConfig

from .models import avatar_1b

config = TrainConfig(model=avatar_1b, batch=64)
