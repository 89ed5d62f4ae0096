"""The sizes of video, latents and sound in time and space, on which all parts of the model agree."""

import math

import numpy as np

FRAMES_PER_LATENT = 4
"""Compression of the VAE in time: 4n + 1 video frames are n + 1 latent frames."""
PIXELS_PER_LATENT = 8
"""Compression of the VAE in rows and in columns."""
IMAGE_TOKENS = 257
"""Tokens of CLIP's ViT-H/14 for one picture: a class token and 16 x 16 patches."""
SAMPLE_RATE = 16000
"""Sound samples a second that the audio encoder reads."""


def latent_frames(video_frames: int) -> int:
    """Latent frames that hold so many video frames: the first alone, then four by four, the last may be short."""
    return 1 + math.ceil((video_frames - 1) / FRAMES_PER_LATENT)


def video_frames(latent_frames: int) -> int:
    """Video frames in so many latent frames, `4n - 3`."""
    return FRAMES_PER_LATENT * (latent_frames - 1) + 1


def frames_of(samples: int, rate: int, fps: int | float) -> int:
    """Video frames that a sound of so many samples needs: its length in frames, rounded up so that nothing is lost."""
    return max(1, -int(-samples * fps // rate))


def evenly(count: int, length: int) -> list[int]:
    """Up to `count` different numbers of 0..length - 1, evenly spaced from the first to the last."""
    return sorted(set(np.linspace(0, length - 1, min(count, length)).astype(int).tolist()))
