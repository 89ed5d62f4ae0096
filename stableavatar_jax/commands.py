"""The one form of every command: options in a dataclass, `run()` that does the work, one screen on a mistake.

A command is a frozen dataclass whose fields are its options and whose `run()` imports what it needs, so that a mistyped
option is answered before JAX is loaded.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from stableavatar_jax.errors import Mistake


def main(command: type[Any] | Mapping[str, type[Any]], argv: Sequence[str] | None = None, *, about: str = "") -> int:
    """Parse, run, and return the exit status: 0, 1 for a mistake, 2 for arguments, 130 when interrupted.

    `command` is one class of options, or one for each subcommand. What is no Mistake is a bug and keeps its traceback.
    """
    from stableavatar_jax.config import parse

    if not isinstance(command, Mapping):
        options = parse(command, argv)
    else:
        import tyro

        try:
            options = tyro.extras.subcommand_cli_from_dict(dict(command), args=argv, description=about)
        except Mistake as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    try:
        return options.run() or 0
    except Mistake as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
