"""StableAvatar 14B on Wan2.1-I2V-14B: 480x832, 81 frames a window, 25 frames a second.

    python sample.py --config avatar_14b --checkpoint weights/avatar_14b --image P --audio A --output V.mp4

18950 M parameters in the transformer (38 GB in bfloat16). Beside its size it differs from the 1.3B model in three
values: the audio projection has a stage of width 2048 more, padded audio slots are hidden from attention as its
released kernel does, and in `cfg` no audio means the adapter on silence.
"""

from stableavatar_jax.sampling.config import Denoising, SampleConfig

from .models import avatar_14b

config = SampleConfig(model=avatar_14b, denoising=Denoising(cfg_null="silence"))
