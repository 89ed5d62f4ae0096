"""Weights in and out: `python -m convert --help`."""
