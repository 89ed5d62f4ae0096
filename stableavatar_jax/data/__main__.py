"""`python -m stableavatar_jax.data`: from raw clips to what training reads."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

ABOUT = """From raw clips to what training reads.

    python -m stableavatar_jax.data prepare --source RAW --output PREPARED \\
        --detector face_detection_short_range.tflite --landmarks face_landmark.tflite
    python -m stableavatar_jax.data build --source PREPARED --output CLIPS
    python -m stableavatar_jax.data inspect CLIPS
    python -m stableavatar_jax.data precompute --data CLIPS --output RECORDS --checkpoint MODEL"""


@dataclass(frozen=True)
class InspectConfig:
    """Say what prepared clips, a data set or records hold, and show the clips with their masks."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder that prepare, build or precompute made, or clips in the release's layout."""
    sheet: Path | None = Path("clips.png")
    """PNG to write, with frames of the clips, face masks red and lip masks green; None writes none."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; a mistake ends with one line on stderr and status 1."""
    from stableavatar_jax.data.clips.dataset import BuildConfig, build
    from stableavatar_jax.data.clips.prepare import PrepareConfig, prepare
    from stableavatar_jax.data.inspection import inspect
    from stableavatar_jax.encoding.precompute import PrecomputeConfig, precompute

    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    commands: dict[str, Callable[..., Any]] = {
        "prepare": PrepareConfig, "build": BuildConfig, "precompute": PrecomputeConfig, "inspect": InspectConfig
    }  # fmt: skip
    try:
        config = tyro.extras.subcommand_cli_from_dict(
            commands, prog="python -m stableavatar_jax.data", args=argv, description=ABOUT
        )
        match config:
            case PrepareConfig():
                print(prepare(config), config.output / "report.csv", sep="\n")
            case BuildConfig():
                print(build(config), config.output, sep="\n")
            case PrecomputeConfig():
                print(precompute(config), config.output, sep="\n")
            case InspectConfig():
                print(inspect(config.folder, config.sheet))
    except ValueError as error:  # Mistake, Mistake and Mistake are such
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
