"""What `prepare` writes about all clips together, and the room that it needs."""

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stableavatar_jax import media
from stableavatar_jax.data.clips.config import PrepareConfig
from stableavatar_jax.data.clips.layouts import CLIP_LIST, QUALITY_SUFFIX
from stableavatar_jax.data.clips.quality import Quality
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import FRAMES_PER_LATENT, evenly
from stableavatar_jax.whole import whole
from stableavatar_jax.words import count

REPORTS = ("report.csv", CLIP_LIST)
GOES_ON = (
    "make room, or choose a folder you may write to; what is finished is kept, and the same command goes on from there"
)
LOOKED_AT = 16
"""Clips whose length is read for the estimate of the room that all need."""
NAMED = 5
"""Clips that a notice names."""
BESIDE = 100_000
"""Bytes of sound and masks of a second, about."""


def write_reports(output: Path, reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Write `REPORTS`, from the measures and faults of clips by their names."""
    columns = ["id", "kept", "faults", *(each.name for each in dataclasses.fields(Quality))]
    rows = [{"id": name, "kept": not row["faults"], **row} for name, row in reports.items()]
    with (
        whole(output / REPORTS[0], advice=GOES_ON) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,  # of a name left out
    ):
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    with whole(output / REPORTS[1], advice=GOES_ON) as partial:
        partial.write_text("".join(f"{row['id']}\n" for row in rows if row["kept"]), encoding="utf-8")


def advice(short: list[int], frames: int) -> str:
    """What to do about clips of so many frames, each shorter than a training window of `frames`."""
    longest = max(short)
    window = longest - (longest - 1) % FRAMES_PER_LATENT
    are = "is" if len(short) == 1 else "are"
    return (
        f"{count(len(short), 'clip')} {are} shorter than a training window of {frames} frames, and left out; --frames "
        f"{window}, for prepare and precompute, takes the longest of them"
    )


def several(names: list[str]) -> str:
    """What is said of clips that show more than one face, where no option says which is meant."""
    show = "shows" if len(names) == 1 else "show"
    some = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return (
        f"{count(len(names), 'clip')} {show} more than one face ({some}): the masks are for the face with the largest "
        "mean area, which report.csv numbers from the left (face); --face or --mask choose another, --limits.faces 1 "
        "leaves such clips out"
    )


def needed(config: PrepareConfig, names: Mapping[Path, str]) -> int:
    """About the bytes that clips take which are not prepared yet: copies, unless they can be hard links, sound, masks.

    How long a clip is for its size is read from a few of them.
    """
    todo = [path for path, name in names.items() if not (config.output / name).with_suffix(QUALITY_SUFFIX).exists()]
    sizes = {path: path.stat().st_size for path in todo if path.exists()}
    looked, seconds = 0, 0.0
    for number in evenly(LOOKED_AT, len(sizes)):
        path, size = list(sizes.items())[number]
        try:
            seconds += media.probe(path).seconds
            looked += size
        except Mistake:
            continue  # it will be left out by name
    place = config.output.absolute()
    while not place.exists():
        place = place.parent
    copied = [size for path, size in sizes.items() if config.fps or path.stat().st_dev != place.stat().st_dev]
    return sum(copied) + round(BESIDE * seconds * sum(sizes.values()) / max(looked, 1))
