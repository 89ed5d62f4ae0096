"""`python -m stableavatar_jax.data`: from raw clips to what training reads."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stableavatar_jax import commands
from stableavatar_jax.data.clips.config import BuildConfig, PrepareConfig
from stableavatar_jax.encoding.config import PrecomputeConfig
from stableavatar_jax.errors import Mistake

ABOUT = """From raw clips to what training reads.

    python -m stableavatar_jax.data prepare --source RAW --output PREPARED \\
        --detector face_detection_short_range.tflite \\
        --landmarks face_landmark.tflite
    python -m stableavatar_jax.data build --source PREPARED --output CLIPS
    python -m stableavatar_jax.data inspect CLIPS
    python -m stableavatar_jax.data precompute --data CLIPS \\
        --output RECORDS --checkpoint MODEL"""


@dataclass(frozen=True)
class InspectConfig:
    """Say what prepared clips, a data set or records hold, and show the clips with their masks.

    python -m stableavatar_jax.data inspect CLIPS
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder that prepare, build or precompute made, or clips in the release's layout (required)."""
    sheet: Path | None = None
    """PNG to write, with frames of the clips, face masks red and lip masks green; by default FOLDER.sheet.png
    beside the folder."""

    def run(self) -> None:
        """Print what the folder holds, and write the sheet."""
        if not self.folder.exists():
            raise Mistake(f"{self.folder}: no such folder; give one that prepare, build or precompute made")
        from stableavatar_jax.data.inspection import inspect

        place = self.folder.resolve()
        print(inspect(self.folder, self.sheet or place.with_name(f"{place.name}.sheet.png")))


COMMANDS = {"prepare": PrepareConfig, "build": BuildConfig, "inspect": InspectConfig, "precompute": PrecomputeConfig}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    return commands.main(COMMANDS, argv, about=ABOUT)


if __name__ == "__main__":
    sys.exit(main())
