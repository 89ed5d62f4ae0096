"""`python -m stableavatar_jax.evaluation`: measures a model by its videos."""

import sys
from collections.abc import Sequence

from stableavatar_jax import commands
from stableavatar_jax.evaluation.config import Codec, Curves, Drift, Probe, Sheet, Talk

ABOUT = """Judging a model by what it makes (docs/demo.md says what is measured, and where the gates come from).

    python -m stableavatar_jax.evaluation talk --clips HELD
    python -m stableavatar_jax.evaluation drift --seconds 60
    python -m stableavatar_jax.evaluation codec --clips HELD
    python -m stableavatar_jax.evaluation sheet talk.mp4 --output sheet.png

The status is 1 where a gate is missed."""
COMMANDS = {"talk": Talk, "drift": Drift, "codec": Codec, "probe": Probe, "sheet": Sheet, "curves": Curves}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    return commands.main(COMMANDS, argv, about=ABOUT)


if __name__ == "__main__":
    sys.exit(main())
