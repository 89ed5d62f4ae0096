"""The small avatar that comes with the package: talking cartoon characters, 96x96 pixels, made in minutes on a CPU.

    python sample.py --config demo --image picture.png --audio speech.wav --output talk.mp4

docs/demo.md says how it was trained and what it can do.
"""

from stableavatar_jax.demo.preset import MODEL, config

__all__ = ["MODEL", "config"]
