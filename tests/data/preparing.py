"""Preparing made clips, with a finder that takes their square for a face."""

import csv
from pathlib import Path

import numpy as np

from stableavatar_jax.data.clips import faces
from stableavatar_jax.data.clips.config import Limits, PrepareConfig
from stableavatar_jax.data.clips.faces import Face
from stableavatar_jax.data.clips.speakers import Person

EASY = Limits(seconds=0.1)


class SquareFinder(faces.FaceFinder):
    """Takes the made clips' square for a face whose lips open and close."""

    seen = 0

    def __init__(self, detector, landmarks):
        pass

    def follow(self, frames):
        for i, _ in enumerate(frames):
            SquareFinder.seen += 1
            points = np.random.default_rng(0).uniform((20 + i % 16, 16), (36 + i % 16, 32), (468, 2)).astype(np.float32)
            points[[faces.FOREHEAD, faces.CHIN]] = (28, 16), (28, 32)
            points[list(faces.MOUTH)] = (28, 26), (28, 27 + i % 3)
            yield Face(0.9, points)


def one(finder, frames):
    """The one face that the made clips have."""
    return [Person(tuple(finder.follow(frames)))]


def config(tmp_path, **options) -> PrepareConfig:
    paths = {"source": tmp_path / "raw", "output": tmp_path / "out", "detector": Path("d"), "landmarks": Path("l")}
    return PrepareConfig(**{**paths, "workers": 0, "frames": 5, "limits": EASY, **options})


def rows(tmp_path) -> dict[str, dict]:
    with (tmp_path / "out" / "report.csv").open() as file:
        return {row["id"]: row for row in csv.DictReader(file)}
