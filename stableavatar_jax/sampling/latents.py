"""Finished latents on disk: kept while a video is made, or for good, and read again."""

import contextlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.errors import Mistake, explained
from stableavatar_jax.sampling.paths import latents_path
from stableavatar_jax.sampling.progress import Event, Finished, Tell
from stableavatar_jax.shapes import Float
from stableavatar_jax.whole import whole


class LatentsWriter:
    """A listener that appends finished latents to a .npy file, which takes its name with the last of them.

    >>> with LatentsWriter(path, (frames, rows, columns, channels)) as file:
    ...     for block in frames(job, avatar, tell=file): ...
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int]):
        """`shape` of the finished file."""
        self.path, self.shape = path, shape
        self.frames = 0
        """Latent frames written so far."""

    def __enter__(self) -> "LatentsWriter":
        with contextlib.ExitStack() as opened:
            partial = opened.enter_context(whole(self.path, space=4 * math.prod(self.shape)))
            self._file = opened.enter_context(partial.open("wb"))
            np.lib.format.write_array_header_1_0(
                self._file, {"descr": "<f4", "fortran_order": False, "shape": self.shape}
            )
            self._opened = opened.pop_all()
        return self

    def __call__(self, event: Event) -> None:
        """Append what is finished."""
        if isinstance(event, Finished):
            self.append(event.z)

    def append(self, z: Float[np.ndarray, "n H W C"]) -> None:
        """Add latent frames at the end; with the last the file takes its name. Raises Mistake on a full disk."""
        with explained(self.path):
            self._file.write(np.ascontiguousarray(z, "<f4").tobytes())
            self._file.flush()
            if self.frames + len(z) >= self.shape[0]:
                self._opened.close()
        self.frames += len(z)

    @property
    def is_whole(self) -> bool:
        """Whether all latents are there."""
        return self.frames >= self.shape[0]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if not self.is_whole:
            cut = error or Mistake(f"{self.path}: {self.frames} of {self.shape[0]} latent frames came")
            with contextlib.suppress(Mistake):  # that what is there cannot be closed
                self._opened.__exit__(type(cut), cut, trace)  # it goes


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

    Where the run ends before its video is whole, they stay, and one line on stderr says how to go on from them. Where
    the disk is full, the video is made without them; the Mistake comes after it, where they are asked for by `path`.
    """
    failed: Mistake | None = None

    def tell(event: Event) -> None:
        nonlocal failed
        try:
            if failed is None:
                file(event)
        except Mistake as error:
            failed = error
            print(f"{error}\nthe video is made without keeping its latents", file=sys.stderr)

    with LatentsWriter(path or latents_path(output), shape) as file:
        try:
            yield tell
        except BaseException:
            if file.is_whole:
                told = f"the finished latents are in {file.path}: go on from them with --decode-only {file.path}"
                print(told, file=sys.stderr)
            raise
        if failed and path:
            raise failed
    if path is None:
        file.path.unlink(missing_ok=True)
