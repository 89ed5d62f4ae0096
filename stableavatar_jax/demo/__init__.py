"""The small avatar that comes with the package: what it is tried on, and how good it is."""
