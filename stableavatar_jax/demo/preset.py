"""How the small avatar that comes with the package makes videos: its model, and how that is sampled."""

from pathlib import Path

from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.models.config import (
    AudioAdapterConfig,
    AvatarConfig,
    CLIPVisionConfig,
    DiTConfig,
    UMT5Config,
    VAEConfig,
    Wav2Vec2Config,
)
from stableavatar_jax.sampling.config import Denoising, Frame, SampleConfig, Weights, change
from stableavatar_jax.sampling.inputs import Inputs

MODEL, STUDENT = (Path(__file__).with_name(name) for name in ("model", "student"))
ASSETS = Path(__file__).with_name("assets")
PICTURE, SPEECH = ASSETS / "character.png", ASSETS / "speech.flac"

# Small enough to be trained from nothing on a CPU, at 96x96 pixels.
model = AvatarConfig(
    dit=DiTConfig(
        dim=192, ffn_dim=640, heads=6, layers=6, text_dim=96, text_len=112, image_dim=128, time_dim=64,
        adapter=AudioAdapterConfig(audio_dim=128, dim=192, heads=6, slot_positions=17),
    ),
    vae=VAEConfig(  # its latents are measured when it is trained
        dim=32, dim_mult=(1, 2, 3, 3), num_res_blocks=1, latents_mean=(0.0,) * 16, latents_std=(1.0,) * 16
    ),
    umt5=UMT5Config(vocab=384, dim=96, attention_dim=96, ffn_dim=192, heads=4, layers=2),
    clip_vision=CLIPVisionConfig(image_size=112, dim=128, heads=4, layers=4, embedding_dim=64),
    wav2vec2=Wav2Vec2Config(
        dim=128, ffn_dim=384, heads=4, layers=4, conv_dims=(64,) * 7, position_kernel=32, position_groups=8
    ),
    tokenizer="bytes",
    after_picture="again",
)  # fmt: skip

config = SampleConfig(
    model=model,
    inputs=Inputs(prompt="A person is talking", negative_prompt=""),  # the long default is cut, and never trained on
    weights=Weights(checkpoint=MODEL, dtype="float32"),
    frame=Frame(height=96, width=96, enlarge=4),
    denoising=Denoising(windows=WindowConfig(window=9, overlap=3), steps=16, shift=3.0, w1=0.5, w2=0.0),
)
"""The teacher: what the avatar was trained to, with its guidance."""

student = change(
    config, transformer=STUDENT, guidance="none", solver="euler", steps=4, levels=(1.0, 0.9, 0.75, 0.5),
    x264_preset="veryfast",
)  # fmt: skip
"""What was distilled from it (docs/distillation.md): 4 evaluations of a window in place of 32."""
