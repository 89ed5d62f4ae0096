"""The paper's ablations on the demo avatar: one command for each table, which goes on where it was stopped.

    python -m benchmarks.ablations 5                    # guidance, 3 pairs of character and voice
    python -m benchmarks.ablations 8 --characters 0 1 2 3 4 --takes 0 1 2    # windows' fusion, 15 pairs

Every finished cell (a row of a table, a pair, a seed) is a line of OUTPUT/cells.jsonl and is not made again, whichever
table asks for it. docs/evidence.md says what was found.
"""

import itertools
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from benchmarks.ablation_caches import with_cache
from benchmarks.ablation_cells import CELLS, Frames, as_text, decisive, frames_of, read_cells, write_cells
from benchmarks.ablation_tables import TABLES, Row
from stableavatar_jax import commands
from stableavatar_jax.diffusion.windows import WindowPlan
from stableavatar_jax.errors import Mistake, need
from stableavatar_jax.frames import latent_frames
from stableavatar_jax.presets import load_preset
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.whole import check_folder

ENDS = 20.0
"""Seconds at the beginning and at the end in which lips and motion are measured by themselves."""
SHOWN = (
    "r", "lag", "colour_drift", "sharpness_kept", "seam", "proportions", "mouth_moves", "head_moves", "evaluations",
)  # fmt: skip
"""Columns of the printed table; cells.jsonl has more."""


@dataclass(frozen=True, kw_only=True)
class Ablations:
    """Make the videos of a table with the demo avatar, measure them, and print the table with its spread.

    python -m benchmarks.ablations 5 --output outputs/ablations
    """

    table: Annotated[str, tyro.conf.Positional]
    """Number of the paper's table (3, 4, 5, 6 or 8), or a sweep: scales, overlap, steps, solver, fewer,
    fewer50 or student."""
    characters: tuple[int, ...] = (0, 1, 2)
    """Held-out characters of the cartoon world."""
    takes: tuple[int, ...] = (0,)
    """Voices of each character: another take has another voice and other sentences. Mute ones are not counted."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the noise."""
    seconds: float | None = None
    """Length of a video; by default the table's own, 20 s or (table 4) 180 s."""
    rows: tuple[str, ...] = ()
    """Names of the rows that are made; by default all."""
    preset: str = "demo"
    """The model and how it is sampled where the table says nothing else."""
    records: Path | None = None
    """Records to train on, for rows that need a model of their own (tables 3 and 4)."""
    train_preset: str = "demo_dit"
    """How those models are trained."""
    train_steps: int = 300
    """Steps of those short trainings, all from one common start."""
    output: Path = Path("outputs/ablations")
    """The folder for cells.jsonl and for trained models."""

    def __post_init__(self):
        if self.table not in TABLES:
            raise Mistake(f"table {self.table!r} is unknown; there are {', '.join(TABLES)}")
        if unknown := set(self.rows) - set(TABLES[self.table].rows):
            raise Mistake(f"row {unknown.pop()!r} is unknown; there are {', '.join(TABLES[self.table].rows)}")
        if not (self.characters and self.takes and self.seeds) or min(*self.characters, *self.takes, *self.seeds) < 0:
            raise Mistake("characters, takes and seeds are one number or more, 0 or above")
        if self.train_steps < 1 or (self.seconds is not None and self.seconds < 2):
            raise Mistake("train_steps is 1 or more, seconds 2 or more")

    def run(self) -> None:
        """Make what is missing and print the table."""
        need("demo", "skia", "espeakng_loader")
        check_folder(self.output)
        Runner(self).run()


class Runner:
    """Makes cells, and keeps them."""

    def __init__(self, config: Ablations):
        self.config, self.table = config, TABLES[config.table]
        self.seconds = config.seconds or self.table.seconds
        self.rows = {name: row for name, row in self.table.rows.items() if not config.rows or name in config.rows}
        self.path = config.output / CELLS
        self.cells = read_cells(self.path)
        self._avatars: dict[tuple[str | None, Path | None], Any] = {}
        self._known: dict[tuple[int, int], Any] = {}

    def run(self) -> None:
        """Make the cells that are missing, pair by pair, so that all rows of what is there can be compared."""
        from stableavatar_jax.compiling import keep_compiled

        keep_compiled()
        self.config.output.mkdir(parents=True, exist_ok=True)
        wanted = list(self.wanted())
        for number, (name, row, key) in enumerate(wanted):
            if self.measured(key):
                continue
            print(f"{number + 1} of {len(wanted)}: {name}, character {key['character']}, take {key['take']}, "
                  f"seed {key['seed']}", file=sys.stderr, flush=True)
            self.cells[as_text(key)] = self.cell(row, key)
            write_cells(self.path, self.cells)
        found: dict[str, list[Mapping[str, float]]] = {name: [] for name in self.rows}
        for name, _, key in wanted:
            found[name].append(self.cells[as_text(key)])
        print(f"{self.table.about}\n{self.seconds:g} s, {len(wanted) // len(self.rows)} videos a row; mean and "
              f"standard deviation\n\n{printed(found, self.shown)}\n\n{self.path}")

    def measured(self, key: Mapping[str, Any]) -> bool:
        """Whether a cell has all that the table shows of it; another table may have measured less."""
        return {"r", *self.shown} <= self.cells.get(as_text(key), {}).keys()

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns."""
        return self.table.shown or SHOWN

    def wanted(self) -> Iterator[tuple[str, Row, dict[str, Any]]]:
        """Name, row and key of every cell; what differs in the key makes another video."""
        c = self.config
        for character, take, seed in itertools.product(c.characters, c.takes, c.seeds):
            for name, row in self.rows.items():
                yield name, row, self.key(row) | {"character": character, "take": take, "seed": seed}

    def key(self, row: Row) -> dict[str, Any]:
        """What a row changes; whom a video shows, and its seed, come to it."""
        c, config = self.config, change(self.sample(), **row.options)
        told = decisive(config.denoising) | ({"cache": True} if row.cache else {})
        told |= {"transformer": other.name} if (other := config.weights.transformer) else {}
        return {
            "preset": c.preset, "adapter": row.adapter, "denoising": told, "seconds": self.seconds,
            "trained": [c.train_steps, str(c.records)] if row.adapter else None,
        }

    def sample(self) -> SampleConfig:
        """How videos are made where a row says nothing else; at the model's own size."""
        return change(load_preset(self.config.preset, SampleConfig), enlarge=1)

    def cell(self, row: Row, key: Mapping[str, Any]) -> dict[str, float]:
        """Make a video and measure it; where lips are compared, also with the video of the table's first row."""
        known = self.known(key["character"], key["take"])
        made, windows, cost = self.make(row, key)
        values = judge(made, known, windows) | cost
        if "lip_psnr" in self.shown:
            from stableavatar_jax.world.measure import lip_psnr

            first = next(iter(self.table.rows.values()))
            base = {**key, **self.key(first)}
            full = frames_of(self.config.output, base, lambda: made if key == base else self.make(first, base)[0])
            values["lip_psnr"] = lip_psnr(made, full, known.lips(len(made)))
        return values

    def make(self, row: Row, key: Mapping[str, Any]) -> tuple[Frames, WindowPlan, dict[str, float]]:
        """Frames of a video, its windows, and what it took."""
        from stableavatar_jax.media import Samples
        from stableavatar_jax.sampling.job import Job
        from stableavatar_jax.sampling.video import frames

        config = change(self.sample(), **row.options)
        avatar = self.avatar(row, config)
        if row.cache:
            config = with_cache(self.config.output / "caches", avatar, config)
        known = self.known(key["character"], key["take"])
        job = Job(
            picture=known.picture, sound=Samples(known.clip.samples), prompt=config.inputs.prompt, seed=key["seed"],
            negative_prompt=config.inputs.negative_prompt, frame=config.frame, denoising=config.denoising,
        )
        begun = time.perf_counter()
        made = np.concatenate(list(frames(job, avatar)))
        windows = job.known.windows
        cost = windows.count * config.denoising.branches_run()
        return made, windows, {"evaluations": cost, "wall": time.perf_counter() - begun}

    def avatar(self, row: Row, config: SampleConfig) -> Any:
        """The model of a row, trained first where it is one of its own."""
        from stableavatar_jax.sampling.avatar import open_avatar

        name = row.adapter, config.weights.transformer
        if name not in self._avatars:
            checkpoint, c = config.weights.checkpoint, self.config
            if row.adapter:
                from benchmarks.ablation_models import trained

                checkpoint = trained(
                    c.output / "models", row.adapter, checkpoint, preset=c.train_preset, records=c.records,
                    steps=c.train_steps,
                )  # fmt: skip
            self._avatars[name] = open_avatar(change(config, checkpoint=checkpoint), keep=True)
        return self._avatars[name]

    def known(self, character: int, take: int) -> Any:
        """A held-out clip with its truth."""
        from stableavatar_jax.world.build import make_clip, speaks
        from stableavatar_jax.world.config import BuildWorldConfig
        from stableavatar_jax.world.known import read_known

        if (character, take) not in self._known:
            world = BuildWorldConfig(
                output=self.config.output, split="test", characters=character + 1, seconds=self.seconds,
                size=self.sample().frame.height,
            )
            spoken = (number for number in itertools.count() if speaks(world, character, number))
            known = read_known(make_clip(world, character, next(itertools.islice(spoken, take, None))))
            self._known = {(character, take): known}  # one at a time: minutes of pictures are large
        return self._known[character, take]


def judge(made: np.ndarray, known: Any, windows: Any) -> dict[str, float]:
    """The measures of a cell: those of `evaluation`, and lips and motion in the first and the last `ENDS` seconds."""
    from stableavatar_jax.evaluation.measures import ends, measure, stretches
    from stableavatar_jax.evaluation.readers import CartoonReader
    from stableavatar_jax.evaluation.readings import read

    seen = read(made, known.clip.fps, CartoonReader(known.character.seed))
    truth = known.mouth.opening
    assert windows.frames == latent_frames(len(made))
    return measure(seen, expected=truth, plan=windows).values | ends(stretches(seen, truth, ENDS))


def printed(found: Mapping[str, list[Mapping[str, float]]], columns: tuple[str, ...]) -> str:
    """A Markdown table of mean and standard deviation over the cells of each row; the last column is the mean over
    pairs of how much higher `r` is than in the first row, with its standard error."""
    base = next(iter(found.values()))
    lines = [f"| row | {' | '.join(columns)} | r against the first row |", "|" + " --- |" * (len(columns) + 2)]
    for name, cells in found.items():
        values = [np.array([cell[column] for cell in cells]) for column in columns]
        shown = [f"{v.mean():.3g} ± {v.std():.2g}" if np.ptp(v) else f"{v[0]:.3g}" for v in values]
        more = np.array([cell["r"] - other["r"] for cell, other in zip(cells, base, strict=True)])
        error = f" ± {more.std(ddof=1) / np.sqrt(len(more)):.2g}" if len(more) > 1 else ""
        against = "" if cells is base else f"{more.mean():+.3f}{error}"
        lines.append(f"| {name} | {' | '.join(shown)} | {against} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(commands.main(Ablations))
