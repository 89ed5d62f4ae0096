"""`python -m stableavatar_jax.demo`: the small avatar's own commands."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import tyro

from stableavatar_jax.compiling import keep_compiled
from stableavatar_jax.errors import Mistake

ABOUT = """usage: python -m stableavatar_jax.demo COMMAND [OPTIONS]

The small avatar that comes with the package (docs/demo.md). COMMAND --help lists the options.

  check       is a picture near what the small avatar knows?
  sheet       frames of a video as one picture
  codec       how well its video autoencoder keeps held-out characters
  talk        how well held-out characters speak held-out voices, or recordings of yours
  drift       whether a character stays itself, and moves, in a long video
  threshold   measure what `check` takes for near, once for each video autoencoder
  bundle      make the picture and the recording of `make demo` again"""
COMMANDS = ("check", "sheet", "codec", "talk", "drift", "threshold", "bundle")


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. A mistake ends with one line on stderr and status 1, as does a gate that is missed.

    Command NAME is the class Name of NAME.py. Only that file is imported: some need skia-python or espeakng-loader,
    and `check` must do without.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments.pop(0) if arguments else "--help"
    if name in ("-h", "--help"):
        return print(ABOUT)
    if name not in COMMANDS:
        sys.exit(f"error: {name}: no such command; the commands are {', '.join(COMMANDS)}")
    keep_compiled()
    try:
        command: Any = getattr(importlib.import_module(f"stableavatar_jax.demo.{name}"), name.capitalize())
        status = tyro.cli(command, args=arguments, prog=f"python -m stableavatar_jax.demo {name}").run()
    except ImportError as error:
        sys.exit(f"error: {error}; `{name}` needs pip install 'stableavatar-jax[demo]'")
    except (ValueError, Mistake) as error:  # Mistake, Mistake and Mistake are the former
        sys.exit(f"error: {error}")
    if status:
        sys.exit(status)
    return None


if __name__ == "__main__":
    main()
