"""Files that are there whole or not at all: the one way in which any command writes."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from stableavatar_jax.errors import Mistake


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write a file or make a folder at; it takes the name `path` when all went well.

    On any failure what was written is removed. Raises Mistake where the place cannot be written to.
    """
    partial = path.with_name(f".{path.name[:180]}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise Mistake(f"{path}: cannot be written ({error.strerror}); choose another path or make room") from error
    finally:
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
