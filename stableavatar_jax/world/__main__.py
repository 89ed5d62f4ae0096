"""`python -m stableavatar_jax.world`: the world of talking characters, as data and as pictures."""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from stableavatar_jax.errors import Mistake

ABOUT = """A world of talking characters that knows how far each mouth is open.

    python -m stableavatar_jax.world build --output CLIPS --characters 640 --split train
    python -m stableavatar_jax.world sheet --output sheet.png
    python -m stableavatar_jax.world sheet --clips CLIPS --number 3 --output clip.png
    python -m stableavatar_jax.world fit"""


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; a mistake ends with one line on stderr and status 1."""
    from stableavatar_jax.world.build import BuildWorldConfig, build_world
    from stableavatar_jax.world.fit import FitConfig, fit
    from stableavatar_jax.world.sheet import SheetConfig, write_sheet

    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    commands: dict[str, Callable[..., Any]] = {"build": BuildWorldConfig, "sheet": SheetConfig, "fit": FitConfig}
    try:
        config = tyro.extras.subcommand_cli_from_dict(
            commands, prog="python -m stableavatar_jax.world", args=argv, description=ABOUT
        )
        match config:
            case BuildWorldConfig():
                print(f"{build_world(config)} clips of {config.frames} frames", config.output, sep="\n")
            case FitConfig():
                print(fit(config))
            case SheetConfig():
                write_sheet(config)
                print(config.output)
    except (ValueError, Mistake) as error:  # Mistake is the former
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
