"""Finished latents on disk: kept while a video is made, and read again."""

import math
import shutil
import sys
from pathlib import Path

import numpy as np

from stableavatar_jax.errors import Mistake, explained
from stableavatar_jax.sampling.progress import Event, Finished
from stableavatar_jax.shapes import Float
from stableavatar_jax.whole import whole


class LatentsFile:
    """A listener that writes finished latents to a .npy file, each in its place.

    A run that is taken up again goes on with the same file. Where the disk is full, the video is made without it.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int], *, begun: bool = False):
        """`shape` of the finished file. Where work has `begun`, a file that is not there could not be written then."""
        self.path, self.shape = path, shape
        self._failed: Mistake | None = None
        with explained(path):
            if begun and not path.exists():
                self._failed = Mistake(f"{path}: the latents of before are not kept; --restart makes them all again")
                return
            if not path.exists():
                with path.open("wb") as file:
                    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            self._begin = _begin(path)

    def __call__(self, event: Event) -> None:
        """Write what is finished."""
        if isinstance(event, Finished) and self._failed is None:
            try:
                with explained(self.path), self.path.open("r+b") as file:
                    file.seek(self._begin + event.start * 4 * math.prod(self.shape[1:]))
                    file.write(np.ascontiguousarray(event.z, "<f4").tobytes())
            except Mistake as error:
                self._failed = error
                self.path.unlink(missing_ok=True)  # or a run that goes on would give away a file with holes
                print(f"{error}\nthe video is made without keeping its latents", file=sys.stderr)

    def give(self, path: Path) -> None:
        """Move the file to where it is wanted. Raises Mistake where it could not be written."""
        if self._failed:
            raise self._failed
        with whole(path) as partial:
            shutil.move(self.path, partial)


def _begin(path: Path) -> int:
    """Where the values of a .npy file begin."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file.tell()


def read_latents(path: Path, shape: tuple[int, int, int, int]) -> Float[np.ndarray, "N H W C"]:
    """Latents mapped from a file that --latents kept; raises Mistake for any other, or another shape."""
    if not path.is_file():
        raise Mistake(f"{path}: no such file; sampling with --latents PATH keeps one")
    try:
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise Mistake("another version of the .npy format")
            have, _, dtype = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
    except ValueError as error:
        raise Mistake(f"{path}: not a .npy file of latents ({error}); give one that --latents kept") from None
    if have != shape or dtype != np.dtype("<f4"):
        raise Mistake(
            f"{path}: holds {dtype} latents of shape {have}, this video has float32 of shape {shape} (frames, rows, "
            "columns, channels); give the recording, fps, height and width they were sampled for"
        )
    there = (path.stat().st_size - start) // int(dtype.itemsize * np.prod(shape[1:]))
    if there < shape[0]:
        raise Mistake(f"{path}: holds {there} of {shape[0]} latent frames; the run was cut short, sample again")
    return np.memmap(path, dtype, "r", start, shape)
