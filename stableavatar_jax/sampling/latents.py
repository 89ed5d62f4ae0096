"""Finished latents on disk: kept while a video is made, or for good, and read again."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.sampling.progress import Event, Finished, Tell
from stableavatar_jax.shapes import Float


class LatentsWriter:
    """A listener that appends finished latents to a .npy file, whose header says from the start how many will come.

    >>> with LatentsWriter(path, (frames, rows, columns, channels)) as file:
    ...     for block in frames(job, avatar, tell=file): ...
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int]):
        """`shape` of the finished file."""
        self.path, self.shape = path, shape
        self.frames = 0
        """Latent frames written so far."""
        self._file: BinaryIO | None = None

    def __enter__(self) -> "LatentsWriter":
        try:
            self._file = self.path.open("wb")
        except OSError as error:
            raise Mistake(f"{self.path}: cannot be written ({error.strerror}); choose another path") from None
        header = {"descr": "<f4", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self

    def __call__(self, event: Event) -> None:
        """Append what is finished."""
        if isinstance(event, Finished):
            self.append(event.z)

    def append(self, z: Float[np.ndarray, "n H W C"]) -> None:
        """Add latent frames at the end."""
        assert self._file is not None, "a LatentsWriter is a context manager"
        self._file.write(np.ascontiguousarray(z, "<f4").tobytes())
        self._file.flush()
        self.frames += len(z)

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()
        if not self.frames:
            self.path.unlink()  # nothing was lost with it


def read_latents(path: Path, shape: tuple[int, int, int, int]) -> Float[np.ndarray, "N H W C"]:
    """Latents mapped from a file that `LatentsWriter` finished; raises Mistake for any other, or another shape."""
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


@contextlib.contextmanager
def kept(path: Path | None, output: Path, shape: tuple[int, int, int, int]) -> Iterator[Tell]:
    """A listener that keeps the finished latents of a run: in `path` for good, or beside `output` until that is whole.

    Where the run ends before its video is whole, they stay, and one line on stderr says how to go on from them.
    """
    with LatentsWriter(path or _unused(output.with_suffix(".latents.npy")), shape) as file:
        try:
            yield file
        except BaseException:
            if file.frames:
                told = f"the finished latents are in {file.path}: go on from them with --decode-only {file.path}"
                print(told, file=sys.stderr)
            raise
    if path is None:
        file.path.unlink(missing_ok=True)


def _unused(path: Path) -> Path:
    """The path, or the first of `talk-2.latents.npy`, `talk-3.latents.npy`, ... where something has that name."""
    number, stem = 1, path.name.removesuffix(".latents.npy")
    while path.exists():
        number += 1
        path = path.with_name(f"{stem}-{number}.latents.npy")
    return path
