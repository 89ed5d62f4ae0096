"""Train a part of the model, or go on with a run: `python train.py --help`, `python train.py --part vae --help`."""

import sys

from stableavatar_jax.training.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
