"""LoRA of the 14B model: low-rank factors on every linear map outside the audio modules, and these modules in full.

    python train.py --config lora_14b --checkpoint weights/avatar_14b --data DIR --run-dir DIR --steps N

                       paper                   release                         here
    rank, alpha        no LoRA                 128, 64                         as the release
    trained besides    -                       audio modules                   as the release
    learning rate      -                       1e-4                            1e-4
    clipping           -                       1.0 (DeepSpeed's own value)     1.0, no rule for spikes
    image features     -                       zeroed in 10% of steps          zeroed in 10% of rows
    batch              -                       1 a device                      8 rows
"""

import dataclasses

from .train_14b import config as full

config = dataclasses.replace(full, train="lora", batch=8)
