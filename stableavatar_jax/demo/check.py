"""Is this picture of the kind that the small avatar knows?"""

import sys
from pathlib import Path

from stableavatar_jax import media
from stableavatar_jax.compiling import keep_compiled
from stableavatar_jax.demo.nearness import fit, gains, read_nearness
from stableavatar_jax.demo.preset import config
from stableavatar_jax.evaluation.video import load_codec

FAR = """\
warning: {path} is not the kind of picture that the demo's small avatar was made for.
         It knows drawn cartoon characters, seen from the front, head and shoulders, at 96x96 pixels. Of other
         pictures it makes a blurred face whose mouth hardly speaks, or none.
         For photographs, paintings and other drawings use the real weights (docs/weights.md).
         (the autoencoder's gain is {gain:z.1f} dB; drawn characters have {threshold:z.1f} dB or more)"""
NEAR = "{path}: a drawn character, of the kind that the demo's small avatar knows"


def check(image: Path, checkpoint: Path) -> bool:
    """Print whether the picture is near the avatar's world, as a warning on stderr where not; returns it.

    Raises Mistake for a picture or a model directory that cannot be read.
    """
    near, text = verdict(image, checkpoint)
    print(text, file=sys.stdout if near else sys.stderr, flush=True)
    return near


def verdict(image: Path, checkpoint: Path) -> tuple[bool, str]:
    """Whether the picture is near the avatar's world, and what to say. Raises Mistake as `check` does."""
    keep_compiled()
    picture = fit(media.read_picture(image), config.frame)
    threshold = read_nearness(checkpoint).threshold
    gain = gains(load_codec(checkpoint), [picture])[0]
    near = bool(gain >= threshold)
    return near, (NEAR if near else FAR).format(path=image, gain=gain, threshold=threshold)
