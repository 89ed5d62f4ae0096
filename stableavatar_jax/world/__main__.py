"""`python -m stableavatar_jax.world`: the world of talking characters, as data and as pictures."""

import sys
from collections.abc import Sequence

from stableavatar_jax import commands
from stableavatar_jax.world.config import BuildWorldConfig, FitConfig, SheetConfig

ABOUT = """A world of talking characters that knows how far each mouth is open.

    python -m stableavatar_jax.world build --output CLIPS --characters 640
    python -m stableavatar_jax.world sheet --output sheet.png
    python -m stableavatar_jax.world sheet --clips CLIPS --output clip.png
    python -m stableavatar_jax.world fit"""
COMMANDS = {"build": BuildWorldConfig, "sheet": SheetConfig, "fit": FitConfig}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    return commands.main(COMMANDS, argv, about=ABOUT)


if __name__ == "__main__":
    sys.exit(main())
