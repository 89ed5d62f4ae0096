"""Options of the world's commands, read without anything that draws, speaks or reads clips."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stableavatar_jax.errors import Mistake, need
from stableavatar_jax.whole import check_output
from stableavatar_jax.words import count

Split = Literal["train", "test"]

FPS = 25
RULE = "rule.npz"
SEEDS = 10_000
"""A seed has so many characters of its own."""
TEST_CHARACTERS = 10_000_000
"""Where the seeds of held-out characters begin."""


@dataclass(frozen=True, kw_only=True)
class BuildWorldConfig:
    """Draw talking characters and write them as a data set of clips, as `data build` does with real ones.

    python -m stableavatar_jax.world build --output CLIPS --characters 640
    """

    output: Path
    """The folder for the data set; it must not exist."""
    characters: int = 640
    """How many characters there are; each is another one."""
    clips: int = 1
    """How many clips each character has, with other voices and sentences."""
    seconds: float = 5.0
    """The length of a clip; it has one frame more."""
    size: int = 96
    """Pixels on a side."""
    seed: int = 0
    """Another seed has other characters, voices, sentences and motion."""
    split: Split = "train"
    """`test` has characters, voices and sentences that `train` never has."""
    still: bool = False
    """Nothing but the mouth moves, as a first test of whether something can be learned."""
    workers: int = 2
    """How many processes draw at once."""

    def __post_init__(self):
        if not 1 <= self.characters <= SEEDS or not 0 <= self.seed < TEST_CHARACTERS // SEEDS or self.clips < 1:
            raise Mistake(f"characters is 1 to {SEEDS}, seed 0 to {TEST_CHARACTERS // SEEDS - 1}, clips 1 or more")
        if not 0 <= self.seconds <= 3600 or self.size < 16 or self.workers < 1:
            raise Mistake("seconds is 0 to 3600, size 16 or more, workers 1 or more")

    @property
    def frames(self) -> int:
        """Frames of a clip."""
        return round(self.seconds * FPS) + 1

    def run(self) -> None:
        """Write the data set, and say how much there is. Raises Mistake where it cannot be written."""
        need("demo", "skia", "espeakng_loader")
        from stableavatar_jax.world.build import build_world

        print(f"{count(build_world(self), 'clip')} of {count(self.frames, 'frame')}", self.output, sep="\n")


@dataclass(frozen=True, kw_only=True)
class SheetConfig:
    """Draw a sheet of characters, or of one clip's frames with the opening of its mouth.

    python -m stableavatar_jax.world sheet --output sheet.png
    python -m stableavatar_jax.world sheet --clips CLIPS --output clip.png
    """

    output: Path = Path("sheet.png")
    """The PNG to write."""
    clips: Path | None = None
    """A data set of the world: its clip `number` is shown in place of characters."""
    number: int = 0
    """Which clip is shown."""
    seed: int = 0
    """The seed of the first character."""
    rows: int = 6
    """Rows of characters, or of frames."""
    columns: int = 12
    """Characters, or frames, in a row."""
    size: int = 96
    """Pixels of a character's side."""

    def __post_init__(self):
        if min(self.rows, self.columns) < 1 or self.size < 16 or self.seed < 0:
            raise Mistake("rows and columns are 1 or more, size 16 or more, seed 0 or more")

    def run(self) -> None:
        """Write the sheet. Raises Mistake where there is no such clip, or where it cannot be written."""
        need("demo", "skia")
        check_output(self.output, inputs=(self.clips,))
        from stableavatar_jax.world.sheet import write_sheet

        write_sheet(self)
        print(self.output)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Fit the rule that opens the mouth of recordings without phonemes, and measure it on held-out voices.

    python -m stableavatar_jax.world fit --output rule.npz
    """

    output: Path = Path(__file__).with_name(RULE)
    """The rule, .npz; by default the one that is used."""
    recordings: int = 800
    """How many recordings of 6 s it is fitted to, from training voices."""
    judged: int = 200
    """How many it is judged on, from held-out voices."""
    penalty: float = 0.01
    """The ridge's penalty, in units of the features' variance."""
    seed: int = 0
    """The seed of voices, sentences, filters and noise."""
    workers: int = 2
    """How many processes speak at once."""

    def __post_init__(self):
        if min(self.recordings, self.judged, self.workers) < 1 or self.penalty < 0:
            raise Mistake("recordings, judged and workers are 1 or more, penalty 0 or more")

    def run(self) -> None:
        """Write the rule, and print what it reaches."""
        need("demo", "espeakng_loader")
        check_output(self.output)
        from stableavatar_jax.world.fit import fit

        print(fit(self))
