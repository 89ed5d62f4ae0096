"""Options of the demo's commands, read without the model and the libraries they need."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stableavatar_jax.data.kinds import expect
from stableavatar_jax.demo.preset import ASSETS, MODEL, PICTURE, SPEECH
from stableavatar_jax.errors import Mistake, need
from stableavatar_jax.inputs import check_file
from stableavatar_jax.whole import check_output

NEARNESS = "nearness.json"
"""The file beside the weights that says how near a picture has to be."""


@dataclass(frozen=True, kw_only=True)
class Make:
    """Make a picture speak a recording, with the small avatar that comes with the package.

    stableavatar-demo
    stableavatar-demo --image face.png --audio speech.wav --output talk.mp4

    The small avatar is for drawn cartoon characters, seen from the front, head and shoulders; the video has 96x96
    pixels, enlarged four times. For photographs and other pictures use real weights (docs/weights.md).
    """

    image: Path = PICTURE
    """The picture; by default the fox that comes with the package."""
    audio: Path = SPEECH
    """The recording; by default ten seconds of English that come with the package."""
    output: Path = Path("demo.mp4")
    """The video to write."""

    def run(self) -> int:
        """Look at the picture, make the video, and say where it is; returns the exit status."""
        for path in (self.image, self.audio):
            check_file(path)
        check_output(self.output, inputs=(self.image, self.audio))
        from stableavatar_jax.demo.make import make

        return make(self)


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say whether a picture is of the kind that the small avatar knows, and what to expect if it is not.

    python -m stableavatar_jax.demo check face.png
    """

    image: Annotated[Path, tyro.conf.Positional]
    """Any picture."""
    checkpoint: Path = MODEL
    """The model directory, with what `threshold` wrote."""

    def run(self) -> None:
        """Print the verdict, a warning on stderr. Raises Mistake for a picture that cannot be read."""
        check_file(self.image)
        from stableavatar_jax.demo.check import check

        check(self.image, self.checkpoint)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Measure the threshold that `check` uses, and write it beside the weights.

    python -m stableavatar_jax.world build --output HELD --characters 200 \\
        --split test --seconds 0
    python -m stableavatar_jax.demo threshold --clips HELD
    """

    clips: Path
    """Held-out clips of the world; their first frames are looked at."""
    checkpoint: Path = MODEL
    """The model directory."""
    percentile: float = 1.0
    """The percentile of the characters' gains that is taken."""
    margin: float = 0.5
    """Decibels below it at which a picture begins to be far."""

    def __post_init__(self):
        if not 0 <= self.percentile <= 100 or self.margin < 0:
            raise Mistake("percentile is 0 to 100, margin 0 or more")

    def run(self) -> None:
        """Write the file. Raises Mistake for clips or weights that cannot be read."""
        expect(self.clips, "clips", "--clips")
        check_output(self.checkpoint / NEARNESS)
        from stableavatar_jax.demo.threshold import measure

        measure(self)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Draw the picture and speak the recording that come with the package.

    python -m stableavatar_jax.demo bundle --output assets
    """

    output: Path = ASSETS
    """The folder for character.png and speech.flac."""

    def run(self) -> None:
        """Write both. Raises Mistake without the extra `demo`."""
        need("demo", "skia", "espeakng_loader")
        from stableavatar_jax.demo.bundle import bundle

        bundle(self.output)
