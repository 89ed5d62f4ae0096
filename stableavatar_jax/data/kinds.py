"""What a path is, by what lies in it: an option that is given something else can then say which one was meant."""

import json
from pathlib import Path
from typing import Literal

from stableavatar_jax.errors import Mistake

RECORDS, CLIPS, CONFIG = "records.json", "clips.json", "config.json"
"""Files that tell a folder of records, a clip data set, and a model or run directory."""

Kind = Literal["records", "clips", "model", "run"]
NAMES: dict[str, str] = {
    "records": "a folder of precomputed records",
    "clips": "a clip data set",
    "model": "a model directory",
    "run": "the directory of a training run",
}
OPTIONS = {"records": "--data", "clips": "--clips", "model": "--checkpoint", "run": "--run-dir"}
MADE = {
    "records": "`python -m stableavatar_jax.data precompute` makes one",
    "clips": "`python -m stableavatar_jax.data build` makes one",
    "model": "`python -m convert import` and `python train.py --export` make one",
    "run": "`python train.py` makes one",
}
WEIGHTS = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}


def kind(path: Path) -> Kind | None:
    """What a folder holds, None for any other; nothing but names and config.json are looked at."""
    if (path / RECORDS).is_file():
        return "records"
    if (path / CLIPS).is_file():
        return "clips"
    try:
        keys = json.loads((path / CONFIG).read_text())
    except (OSError, ValueError):
        return "run" if (path / "checkpoints").is_dir() and (path / "metrics.csv").is_file() else None
    return "run" if "run_dir" in keys else "model" if "dit" in keys or "vae" in keys else None


def expect(path: Path, wanted: Kind, option: str) -> Path:
    """The path, if it is a folder of the kind that the option needs; raises Mistake, which says what it is instead and
    which option or command was meant.
    """
    found = kind(path)
    if found == wanted:
        return path
    needed = f"{option} {path}: {NAMES[wanted]} is needed"
    if found == "run" and wanted == "model":
        advice = f"python train.py --run-dir {path} --export DIR makes a model directory of it"
        raise Mistake(f"{needed}, this is {NAMES[found]}; {advice}")
    if found == "clips" and wanted == "records":
        advice = f"give it as --clips, or make records: python -m stableavatar_jax.data precompute --data {path}"
        raise Mistake(f"{needed}, this is {NAMES[found]}; {advice}")
    if found:
        raise Mistake(f"{needed}, this is {NAMES[found]}, which {OPTIONS[found]} takes; {MADE[wanted]}")
    if path.is_file():
        advice = "`python -m convert import --part dit --source FILE --output DIR` brings such a file in"
        told = advice if wanted == "model" and path.suffix in WEIGHTS else MADE[wanted]
        raise Mistake(f"{needed}, this is a file; {told}")
    if not path.is_dir():
        raise Mistake(f"{needed}, there is nothing at this path; {MADE[wanted]}")
    raise Mistake(f"{needed}, this folder is not one (it has no {_sign(wanted)}); {MADE[wanted]}")


def _sign(wanted: Kind) -> str:
    return {"records": RECORDS, "clips": CLIPS}.get(wanted, CONFIG)
