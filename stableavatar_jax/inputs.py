"""Files and folders that a command reads, looked at before anything is loaded."""

import os
import re
from pathlib import Path

from stableavatar_jax.errors import Mistake


def check_file(path: Path, advice: str = "check the path") -> None:
    """Raise Mistake unless `path` is a file with something in it; `advice` says what to do where there is none."""
    _check_kind(path)
    if path.is_dir():
        raise Mistake(f"{path}: is a folder; name a file in it")
    if not path.exists():
        raise Mistake(f"{path}: no such file; {advice}")
    _check_access(path, os.R_OK)
    if path.stat().st_size == 0:
        raise Mistake(f"{path}: the file is empty (0 bytes); copy or export it again")


def check_directory(path: Path, advice: str = "check the path") -> None:
    """Raise Mistake unless `path` is a folder; `advice` says what to do where there is none."""
    _check_kind(path)
    if path.is_file():
        raise Mistake(f"{path}: is a file, and a folder is needed; {advice}")
    if not path.exists():
        raise Mistake(f"{path}: no such folder; {advice}")
    _check_access(path, os.R_OK | os.X_OK)


def check_there(path: Path, advice: str = "check the path") -> None:
    """Raise Mistake unless `path` is a file or a folder; `advice` says what to do where there is none."""
    _check_kind(path)
    if not path.exists():
        raise Mistake(f"{path}: no such file or folder; {advice}")
    _check_access(path, os.R_OK)


def _check_access(path: Path, wanted: int) -> None:
    if not os.access(path, wanted):
        raise Mistake(f"{path}: may not be read; give yourself permission (chmod), or choose another")


def _check_kind(path: Path) -> None:
    try:
        there = path.exists()
    except OSError as error:  # of a name that is too long, or a folder that may not be entered
        raise Mistake(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if not there and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise Mistake(f"{path}: is an address, and a path is needed; download it first")
    if not there and str(path) == "-":
        raise Mistake("-: what is piped in is not read; write it into a file first")
    if there and not path.is_file() and not path.is_dir():
        raise Mistake(f"{path}: is a pipe or a device, and a file is needed; write its content into a file first")
