"""Options of the commands that measure, read without the model, the world and the libraries they need."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from stableavatar_jax.data.kinds import expect
from stableavatar_jax.errors import Mistake, need
from stableavatar_jax.inputs import check_file, check_there
from stableavatar_jax.presets import load_preset
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.whole import check_folder, check_output

WORLD = ("skia", "espeakng_loader")
"""Modules of the extra `demo`, which whatever draws or speaks needs."""
METRICS = "metrics.csv"
"""Where `train.py` writes a run's measurements."""


def shipped() -> SampleConfig:
    """How the small avatar that comes with the package makes videos."""
    return load_preset("demo", SampleConfig)


def shipped_model() -> Path:
    """Its model directory."""
    folder = shipped().weights.checkpoint
    assert folder is not None
    return folder


@dataclass(frozen=True, kw_only=True)
class Talk:
    """Make held-out characters speak held-out voices, and measure their mouths against the truth.

    python -m stableavatar_jax.evaluation talk --clips HELD
    python -m stableavatar_jax.evaluation talk --clips HELD \\
        --recordings speech-1.wav speech-2.wav
    """

    clips: Path
    """Held-out clips of the world: their first frames, sounds and truth are used."""
    recordings: tuple[Path, ...] = ()
    """Sounds of which no truth is known, spoken by the clips' characters in place of the clips' own; they are measured
    against the rule of `world.listening`."""
    seconds: float = 10.0
    """How much of each recording is spoken."""
    number: int = 8
    """How many clips are taken, evenly spaced over the data set."""
    captions: bool = False
    """Describe each character to the model as its clip does; by default all have the prompt of `sample`."""
    sample: SampleConfig = field(default_factory=shipped)
    """How videos are made; by default as the preset `demo` says. Picture and sound are those of the clips."""
    output: Path = Path("outputs/talk")
    """The folder for report.json and sheet.png, in which the true video stands over the generated one."""

    def __post_init__(self):
        if self.number < 1 or self.seconds <= 0:
            raise Mistake("number is 1 or more, seconds above 0")

    def run(self) -> int:
        """Make the videos, measure, print, write; returns 1 where a gate is missed."""
        need("demo", *WORLD)
        expect(self.clips, "clips", "--clips")
        for recording in self.recordings:
            check_file(recording)
        check_folder(self.output, inputs=(self.clips, *self.recordings))
        from stableavatar_jax.evaluation.talk import judge

        return judge(self)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Make one long video of a held-out character, and measure every stretch of it against its first second.

    python -m stableavatar_jax.evaluation drift --seconds 60
    """

    seconds: float = 60.0
    """The length of the video."""
    stretch: float = 5.0
    """The length of a stretch that is measured by itself, in seconds."""
    number: int = 0
    """The held-out character's number; voice and sentences belong to it."""
    sample: SampleConfig = field(default_factory=shipped)
    """How videos are made; by default as the preset `demo` says. Picture and sound are the character's."""
    output: Path = Path("outputs/drift")
    """The folder for report.json and sheet.png, a row for each stretch."""

    def __post_init__(self):
        if not 1 <= self.stretch <= self.seconds:
            raise Mistake(f"stretch is {self.stretch:g} s, 1 to {self.seconds:g} s (the whole video) are needed")
        if self.number < 0:
            raise Mistake(f"number is {self.number}, 0 or more is needed")

    def run(self) -> int:
        """Make the video, measure, print, write; returns 1 where a gate is missed."""
        need("demo", *WORLD)
        check_folder(self.output)
        from stableavatar_jax.evaluation.drift import judge

        return judge(self)


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
    """The folder for report.json and sheet.png, in which what went in stands over what came out."""

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
class Sheet:
    """Draw evenly spaced frames of a video, and under each its mouth enlarged.

    python -m stableavatar_jax.evaluation sheet talk.mp4 --output sheet.png
    """

    video: Annotated[Path, tyro.conf.Positional]
    """Any video."""
    output: Path = Path("sheet.png")
    """The PNG or JPEG to write."""
    columns: int = 8
    """Frames in a row."""
    rows: int = 2
    """Rows of frames."""
    start: float = 0.0
    """Seconds at which the first frame is taken."""
    seconds: float | None = None
    """Seconds from the first frame to the last; by default to the end of the video."""
    size: int = 160
    """Pixels of a frame's width on the sheet."""
    mouth: tuple[float, float, float] = (0.5, 0.66, 0.4)
    """Where the mouth is: its middle's place from the left and the top, and the side of the square around it, in
    shares of the picture's width and height."""

    def __post_init__(self):
        if min(self.columns, self.rows) < 1 or self.size < 16 or self.start < 0 or (self.seconds or 1) <= 0:
            raise Mistake("columns and rows are at least 1, size 16, start 0, and seconds is above 0")
        x, y, side = self.mouth
        if not side / 2 <= min(x, y) <= max(x, y) <= 1 - side / 2 or side <= 0:
            raise Mistake(f"mouth is {x:g} {y:g} {side:g}: a square that lies within the picture is needed")

    def run(self) -> None:
        """Write the sheet. Raises Mistake for a file that is no video, or is shorter than `start`."""
        check_file(self.video)
        check_output(self.output, inputs=(self.video,))
        from stableavatar_jax.evaluation.sheet import draw

        draw(self)
        print(self.output)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Draw columns of runs' metrics.csv over their steps (matplotlib comes with the extra `training`).

    python -m stableavatar_jax.evaluation curves runs/a --output a.png
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories, or CSV files with a column `step`; each has a plot of its own."""
    columns: tuple[str, ...] = ("loss",)
    """What is drawn of each; columns that a run lacks are left out."""
    smooth: int = 25
    """How many steps a point is the mean of."""
    output: Path = Path("curves.png")
    """The PNG to write."""

    def __post_init__(self):
        if not self.runs or self.smooth < 1:
            raise Mistake("give one run or more; smooth is 1 or more")

    def run(self) -> None:
        """Write the picture. Raises Mistake for a file that has no steps."""
        for path in self.runs:
            check_there(path)
            check_file(path / METRICS if path.is_dir() else path, "give run directories of train.py, or CSV files")
        check_output(self.output, inputs=self.runs)
        need("training", "matplotlib")
        from stableavatar_jax.evaluation.curves import draw

        draw(self)
        print(self.output)
