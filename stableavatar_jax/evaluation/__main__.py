"""`python -m stableavatar_jax.evaluation`: measures a model by its videos."""

import sys
from collections.abc import Sequence

from stableavatar_jax import commands
from stableavatar_jax.evaluation.config import Drift, Measure, Talk
from stableavatar_jax.evaluation.config_networks import Codec, Frechet, Probe
from stableavatar_jax.evaluation.config_pictures import Curves, Sheet

ABOUT = """Judging videos, and a model by what it makes (docs/evidence.md says what is measured, docs/demo.md where the
gates come from). Without a command, videos are measured.

    python -m stableavatar_jax.evaluation talk.mp4 --output REPORT
    python -m stableavatar_jax.evaluation talk --clips HELD
    python -m stableavatar_jax.evaluation drift --seconds 180
    python -m stableavatar_jax.evaluation codec --clips HELD
    python -m stableavatar_jax.evaluation sheet talk.mp4 --output sheet.png

The status is 1 where a gate is missed."""
COMMANDS = {
    "measure": Measure, "talk": Talk, "drift": Drift, "frechet": Frechet, "codec": Codec, "probe": Probe,
    "sheet": Sheet, "curves": Curves,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] not in (*COMMANDS, "-h", "--help"):
        argv = ["measure", *argv]
    return commands.main(COMMANDS, argv, about=ABOUT)


if __name__ == "__main__":
    sys.exit(main())
