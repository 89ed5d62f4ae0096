"""Options of the commands that judge networks, read without the networks and the libraries they need."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from stableavatar_jax.data.kinds import expect
from stableavatar_jax.errors import Mistake, need
from stableavatar_jax.evaluation.config import WORLD, shipped_model
from stableavatar_jax.inputs import check_file
from stableavatar_jax.whole import check_folder


@dataclass(frozen=True, kw_only=True)
class Codec:
    """Send held-out clips through the video autoencoder and back, and measure how well they are reproduced.

    python -m stableavatar_jax.evaluation codec --clips HELD
    """

    clips: Path
    """Held-out clips of the world."""
    checkpoint: Path = field(default_factory=shipped_model)
    """The model directory; only its video autoencoder is needed."""
    number: int = 8
    """How many clips are taken, evenly spaced over the data set."""
    frames: int = 65
    """How many frames of each, 1 + 4n; of a shorter clip as many as it has."""
    output: Path = Path("outputs/codec")
    """The folder for report.html, report.json and sheet.png, in which what went in stands over what came out."""

    def __post_init__(self):
        if self.frames % 4 != 1 or self.frames < 5 or self.number < 1:
            raise Mistake(f"frames is {self.frames}, 1 + 4n and 5 or more is needed, and number 1 or more")

    def run(self) -> int:
        """Measure, print, write; returns 1 where a gate is missed."""
        need("demo", *WORLD)
        expect(self.clips, "clips", "--clips")
        check_folder(self.output, inputs=(self.clips,))
        from stableavatar_jax.evaluation.codec import judge

        return judge(self)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Measure how well a linear map of the audio encoder's features predicts the mouth's opening.

    python -m stableavatar_jax.evaluation probe --checkpoint MODEL \\
        --clips TRAIN --held-out TEST

    The map is a ridge regression, fitted to one set of clips and measured on the other. A correlation above 0.9 is
    wanted before a transformer is trained on the encoder.
    """

    checkpoint: Path
    """The model directory."""
    clips: Path
    """Clip data set with labels, to fit the map to."""
    held_out: Path
    """Clip data set with labels, of other voices, to measure on."""
    frames: int = 33
    """Video frames of a window."""

    def __post_init__(self):
        if self.frames < 1:
            raise Mistake(f"frames is {self.frames}, 1 or more is needed")

    def run(self) -> None:
        """Print the correlations."""
        expect(self.checkpoint, "model", "--checkpoint")
        for path, name in ((self.clips, "--clips"), (self.held_out, "--held-out")):
            expect(path, "clips", name)
        from stableavatar_jax.checkpoint import load_part
        from stableavatar_jax.config import read_config
        from stableavatar_jax.data.clips.dataset import ClipDataset
        from stableavatar_jax.models.config import AvatarConfig
        from stableavatar_jax.training.parts.probe import probe

        encoder, params = load_part(self.checkpoint, read_config(self.checkpoint, AvatarConfig), "wav2vec2")
        measured = probe(encoder, ClipDataset(self.clips), ClipDataset(self.held_out), self.frames)(params)
        print("  ".join(f"{name} {value:.3f}" for name, value in measured.items()))


@dataclass(frozen=True, kw_only=True)
class Frechet:
    """Measure the Frechet distance of two sets of features: of Inception's it is FID, of I3D's FVD.

    python -m stableavatar_jax.evaluation frechet real.npy made.npy

    docs/evidence.md has the program that makes such files with the networks of the published scores.
    """

    real: Annotated[Path, tyro.conf.Positional]
    """Features of real pictures or videos, .npy, a row for each."""
    made: Annotated[Path, tyro.conf.Positional]
    """Features of generated ones, from the same network."""

    def run(self) -> None:
        """Print the distance. Raises Mistake for files that hold no such features."""
        import numpy as np

        from stableavatar_jax.evaluation.quality import frechet

        sets = []
        for path in (self.real, self.made):
            check_file(path)
            try:
                features = np.load(path, allow_pickle=False)
            except (ValueError, EOFError, OSError) as error:
                raise Mistake(f"{path}: no .npy file of features ({error}); make it again") from None
            if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating) or not np.isfinite(features).all():
                raise Mistake(f"{path}: {features.dtype} of shape {features.shape}; finite features, rows, are needed")
            sets.append(features)
        if min(map(len, sets)) <= sets[0].shape[1]:
            print(f"fewer rows than the {sets[0].shape[1]} features: the distance depends on their number, so compare "
                  "sets of the same size only")
        print(f"{frechet(*sets):.4g}")
