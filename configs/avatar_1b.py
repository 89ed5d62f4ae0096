"""StableAvatar 1.3B on Wan2.1-Fun-InP: 480x832, 81 frames a window, 25 frames a second.

    python -m convert import --part dit --source transformer3d-square.pt --output weights/avatar_1b ...
    python sample.py --config avatar_1b --checkpoint weights/avatar_1b --image P --audio A --output V.mp4

1747 M parameters in the transformer (3.5 GB in bfloat16). The released weights read padded text and audio, so nothing
is masked; 50 Euler steps at shift 5.
"""

from stableavatar_jax.sampling.config import SampleConfig

from .models import avatar_1b

config = SampleConfig(model=avatar_1b)
