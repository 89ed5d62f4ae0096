"""A picture and a recording become a talking video: `python sample.py --help`."""

import sys

from stableavatar_jax.sampling.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
