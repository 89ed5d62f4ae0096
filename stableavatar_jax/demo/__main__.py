"""`python -m stableavatar_jax.demo`: the small avatar's own commands."""

import sys
from collections.abc import Sequence

from stableavatar_jax import commands
from stableavatar_jax.demo.config import Bundle, Check, Make, Threshold

ABOUT = """The small avatar that comes with the package (docs/demo.md).

    python -m stableavatar_jax.demo make
    python -m stableavatar_jax.demo check face.png
    python -m stableavatar_jax.demo threshold --clips HELD
    python -m stableavatar_jax.demo bundle"""
COMMANDS = {"make": Make, "check": Check, "threshold": Threshold, "bundle": Bundle}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    return commands.main(COMMANDS, argv, about=ABOUT)


def make(argv: Sequence[str] | None = None) -> int:
    """`stableavatar-demo`: the demo's video alone; returns the exit status."""
    return commands.main(Make, argv)


if __name__ == "__main__":
    sys.exit(main())
