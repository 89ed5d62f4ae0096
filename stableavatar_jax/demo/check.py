"""Is this picture near what the small avatar knows?"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stableavatar_jax import media
from stableavatar_jax.configs import demo
from stableavatar_jax.demo.nearness import fit, gains, read_nearness
from stableavatar_jax.evaluation.video import load_codec

WARNING = """\
warning: {path} is unlike what the demo's small avatar has seen ({gain:z.1f} dB, {threshold:z.1f} are needed).
         It was trained on drawn cartoon characters alone; of other pictures it makes a poor video.
         For photographs, paintings and other drawings get the real weights: docs/weights.md"""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say whether a picture is near the world of the small avatar, and warn where it is not.

    python -m stableavatar_jax.demo check face.png
    """

    image: Annotated[Path, tyro.conf.Positional]
    """Any picture."""
    checkpoint: Path = demo.MODEL
    """Model directory, with what `threshold` wrote."""

    def run(self) -> None:
        """Print the verdict, a warning on stderr. Raises Mistake for a picture that cannot be read."""
        picture = fit(media.read_picture(self.image), demo.config)
        threshold = read_nearness(self.checkpoint).threshold
        gain = gains(load_codec(self.checkpoint), [picture])[0]
        if gain < threshold:
            print(WARNING.format(path=self.image, gain=gain, threshold=threshold), file=sys.stderr)
        else:
            print(f"{self.image}: near the demo's drawn characters ({gain:z.1f} dB, {threshold:z.1f} are needed)")
