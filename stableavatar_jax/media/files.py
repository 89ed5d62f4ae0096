"""Opening media files, and the one error that says why a file was refused."""

import io
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from stableavatar_jax.errors import Mistake


def check_file(path: Path) -> None:
    """Raise Mistake unless `path` is a file with something in it."""
    if path.is_dir():
        raise Mistake(f"{path}: is a folder; name a file in it")
    if not path.exists():
        raise Mistake(f"{path}: no such file; check the path")
    if path.stat().st_size == 0:
        raise Mistake(f"{path}: the file is empty (0 bytes); copy or export it again")


def open_media(path: Path, data: bytes | None = None) -> InputContainer:
    """A sound or video file, open for decoding. Raises Mistake where it is neither.

    `data` is the file's content where that is in memory already; the path then only names it in errors.
    """
    if data is None:
        check_file(path)
    try:
        source: Any = path if data is None else io.BytesIO(data)
        return av.open(source, "r", metadata_errors="replace")  # titles of old songs are in any encoding
    except (av.error.FFmpegError, OSError) as error:
        raise Mistake(
            f"{path}: cannot be opened as sound or video ({error.strerror}): it is cut off, damaged or something else; "
            "copy or export it again"
        ) from error
