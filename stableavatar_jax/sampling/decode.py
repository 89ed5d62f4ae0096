"""Latents to frames, chunk by chunk: on disk, through the decoder, into whatever writes the video."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.media import postprocess
from stableavatar_jax.models.vae import VAE
from stableavatar_jax.shapes import Float, UInt8


class LatentsWriter:
    """A .npy file to which finished latent frames are appended; its header tells from the start how many there will be.

    >>> with LatentsWriter(path, (frames, rows, columns, channels)) as file:
    ...     file.append(z)
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


def decode(
    vae: VAE, params: Any, latents: Float[np.ndarray, "N H W C"], frames: int
) -> Iterator[UInt8[np.ndarray, "n H W 3"]]:
    """The first `frames` frames of the video, as they come; peak memory does not depend on the length.

    The first latent frame is one frame, every other four; each call of the decoder takes one.
    """

    def one(params, z, cache):
        video, cache = vae.apply({"params": params}, z[None, None], cache, method="decode")
        return postprocess(video[0]), cache

    one_jit = jax.jit(one, donate_argnums=2)
    cache, done = None, 0
    for z in latents:
        video, cache = one_jit(params, jnp.asarray(z), cache)
        video = np.asarray(video)[: frames - done]
        done += len(video)
        yield video
        if done >= frames:
            return
