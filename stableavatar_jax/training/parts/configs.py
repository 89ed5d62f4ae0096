"""The options of every part of the model that can be trained. Read without JAX."""

from stableavatar_jax.training.config import RunConfig
from stableavatar_jax.training.parts.config import (
    TextImageTrainConfig,
    TrainConfig,
    VAETrainConfig,
    Wav2Vec2TrainConfig,
)
from stableavatar_jax.training.parts.distil_config import DistilConfig

CONFIGS: dict[str, type[RunConfig]] = {
    "dit": TrainConfig,
    "vae": VAETrainConfig,
    "wav2vec2": Wav2Vec2TrainConfig,
    "text_image": TextImageTrainConfig,
    "distil": DistilConfig,
}
"""Options of every part that `--part` can name."""
