"""Distillation of the 1.3B model: a LoRA learns its guidance, then four steps; the teacher is the frozen model.

    python train.py --part distil --config distil_1b --checkpoint weights/avatar_1b --data DIR --run-dir A --steps N
    python train.py --run-dir A --export weights/guided
    python train.py --part distil --config distil_1b --checkpoint weights/guided --data DIR --run-dir B --steps N \\
        --student.steps 4 --student.substeps 4

Nothing here was tried on the published weights; docs/distillation.md says what was found with the demo's.
"""

from stableavatar_jax.models.config import LoRAConfig
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.distil_config import DistilConfig

from .models import avatar_1b

config = DistilConfig(
    model=avatar_1b, train="lora_alone", lora=LoRAConfig(rank=128, alpha=128.0), batch=8,
    optimizer=OptimizerConfig(learning_rate=1e-4, weight_decay=0.0, clip=(1.0, 1.0), clip_spikes=False, ema=0.999),
)  # fmt: skip
