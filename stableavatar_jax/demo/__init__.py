"""The first video: `make demo`."""
