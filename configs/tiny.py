"""Every part shrunk to run in seconds on a CPU, with random weights: a smoke test whose video shows noise.

    python sample.py --config tiny --image face.png --audio speech.wav --output tiny.mp4
"""

from stableavatar_jax.models.config import (
    AudioAdapterConfig,
    AvatarConfig,
    CLIPVisionConfig,
    DiTConfig,
    UMT5Config,
    VAEConfig,
    Wav2Vec2Config,
)
from stableavatar_jax.sampling.config import Denoising, Frame, SampleConfig, Weights

model = AvatarConfig(
    dit=DiTConfig(
        dim=48, ffn_dim=96, heads=2, layers=2, text_dim=32, text_len=32, image_dim=32, time_dim=32,
        adapter=AudioAdapterConfig(audio_dim=32, dim=48),
    ),
    vae=VAEConfig(dim=8, conv="direct"),  # slower at work than `taps`, but compiled in half the time
    umt5=UMT5Config(vocab=384, dim=32, attention_dim=32, ffn_dim=64, heads=2, layers=2),
    clip_vision=CLIPVisionConfig(image_size=28, dim=32, heads=2, layers=2, embedding_dim=16),
    wav2vec2=Wav2Vec2Config(
        dim=32, ffn_dim=64, heads=2, layers=1, conv_dims=(16,) * 7, position_kernel=16, position_groups=4
    ),
    tokenizer="bytes",
)

config = SampleConfig(
    model=model,
    weights=Weights(random_weights=True, dtype="float32"),
    frame=Frame(height=64, width=64),
    denoising=Denoising(steps=2),
)
