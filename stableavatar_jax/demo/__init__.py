"""The small avatar that comes with the package: its preset, its picture and recording, and the check of pictures."""
