"""The command that trains a part of the model: `python train.py`, or `stableavatar-train` where it is installed."""

import sys
from collections.abc import Sequence

from stableavatar_jax import commands
from stableavatar_jax.data.kinds import Kind, expect
from stableavatar_jax.training.config import RunConfig
from stableavatar_jax.training.parts.configs import CONFIGS

ABOUT = "Part of the model to train; every part has options of its own."


def main(argv: Sequence[str] | None = None) -> int:
    """Train, export or compile, as the options say; 0 when done, 143 when stopped before the last step."""
    return commands.main(CONFIGS, argv, about=ABOUT, by="--part", default="dit", run=run)


def run(config: RunConfig) -> int:
    """Train, export or compile, as the options say; the exit status. Raises Mistake."""
    given: dict[str, Kind] = {"checkpoint": "model", "data": "records", "clips": "clips"}
    for name, kind in () if config.export else given.items():
        if (path := getattr(config, name, None)) is not None:
            expect(path, kind, f"--{name}")
    from stableavatar_jax import startup
    from stableavatar_jax.training import work

    startup.watch()
    return work.export(config) if config.export else work.train(config)


if __name__ == "__main__":
    sys.exit(main())
