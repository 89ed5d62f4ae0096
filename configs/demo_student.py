"""The small avatar that comes with the package, distilled: 4 evaluations of a window in place of 32.

    python sample.py --config demo_student --image picture.png --audio speech.wav --output talk.mp4

docs/distillation.md says how it was made and how it compares with its teacher, the preset `demo`.
"""

from stableavatar_jax.demo.preset import STUDENT
from stableavatar_jax.demo.preset import student as config

__all__ = ["STUDENT", "config"]
