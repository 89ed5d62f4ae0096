"""A DiT small enough to train in a test, and batches for it."""

import dataclasses
from typing import Any

import numpy as np

from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.models.config import (
    AudioAdapterConfig,
    AvatarConfig,
    CLIPVisionConfig,
    DiTConfig,
    UMT5Config,
    Wav2Vec2Config,
)
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import StepConfig, TrainConfig

MODEL = AvatarConfig(
    dit=DiTConfig(
        dim=32, ffn_dim=48, heads=2, layers=2, text_dim=12, text_len=6, image_dim=10, time_dim=16,
        adapter=AudioAdapterConfig(audio_dim=8, dim=32, blocks=1),
    ),
    umt5=UMT5Config(vocab=32, dim=12, attention_dim=12, ffn_dim=16, heads=2, layers=1),
    clip_vision=CLIPVisionConfig(image_size=28, dim=10, heads=2, layers=2, embedding_dim=4),
    wav2vec2=Wav2Vec2Config(dim=8, ffn_dim=16, heads=2, layers=1, position_kernel=4, position_groups=2),
)
SHAPE = (3, 4, 4)  # latent frames, rows, columns


def config(**changes: Any) -> TrainConfig:
    """One device, float32, random weights, a short warm-up; `accumulate` goes to the step's config."""
    step = StepConfig(accumulate=changes.pop("accumulate", 1))
    defaults = dict(
        model=MODEL, batch=2, dtype="float32", remat="none", mesh=MeshConfig(fsdp=1), step=step, log_every=2,
        random_weights=True,
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup=2),
    )
    return TrainConfig(**(defaults | changes))


def batch(
    seed: int, rows: int = 2, shape: tuple[int, int, int] = SHAPE, c: DiTConfig = MODEL.dit
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    normal = lambda *size: rng.standard_normal((rows, *size), np.float32)  # noqa: E731
    return {
        "latents_mean": normal(*shape, 16), "latents_logvar": normal(*shape, 16) - 6,
        "reference_mean": normal(*shape, 16), "reference_logvar": normal(*shape, 16) - 6,
        "text": normal(5, c.text_dim), "text_mask": np.tile(np.arange(5) < 4, (rows, 1)),
        "image": normal(7, c.image_dim), "audio": normal(17, c.adapter.audio_dim),
        "face_mask": rng.random((rows, *shape), np.float32), "lip_mask": rng.random((rows, *shape), np.float32),
    }


@dataclasses.dataclass
class Synthetic:
    """Batches drawn from their number: endless, repeatable, from any place."""

    rows: int = 2
    place: int = 0
    broken_at: int | None = None

    def __iter__(self):
        return self

    def __next__(self):
        self.place += 1
        made = batch(self.place, self.rows)
        if self.place == self.broken_at:
            made["audio"] = made["audio"] * np.nan
            made["latents_mean"] = made["latents_mean"] * np.nan
        return made

    def get_state(self):
        return {"place": self.place}

    def close(self):
        pass

    def set_state(self, state):
        self.place = state["place"]
