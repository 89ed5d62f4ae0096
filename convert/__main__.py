"""`python -m convert`, from a checkout, and `python -m stableavatar_jax.convert`."""

import sys

from stableavatar_jax.convert.commands import main  # by its full name: no module of this folder is loaded twice

if __name__ == "__main__":
    sys.exit(main())
