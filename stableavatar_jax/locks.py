"""One process at a time for each file or folder that is written, by a lock that ends with its process."""

import contextlib
import fcntl
import os
import shlex
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from stableavatar_jax.errors import Mistake, explained

KEPT_BYTES = 160
"""Bytes of a long name that stay in its hidden ones, which libraries lengthen by up to 60 while they write."""

_held: set[int] = set()


def _let_go() -> None:
    for lock in _held:
        os.close(lock)


os.register_at_fork(after_in_child=_let_go)  # or a lock would outlive its process in a worker


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing `path`, a file or a folder, as long as the block lasts.

    Raises Mistake where one does, with its number and command. File systems without locks do without.
    """
    name = hidden(path, ".lock")
    with explained(path):
        lock = _take(path, name)
    _held.add(lock)
    try:
        yield
    finally:
        name.unlink(missing_ok=True)  # before it is free: nobody takes a file that is about to go
        _held.discard(lock)
        os.close(lock)


def hidden(path: Path, suffix: str = ".part") -> Path:
    """The hidden name of a file or folder; a long name is cut, and told from others by its checksum."""
    if path.name in ("", ".."):  # "." has no name of its own
        path = path.resolve()
    name = os.fsencode(path.name)
    if len(name) > KEPT_BYTES:
        name = name[:KEPT_BYTES].decode("utf-8", "ignore").encode() + b"-%08x" % zlib.crc32(name)
    return path.with_name(f".{os.fsdecode(name)}{suffix}")


def _take(path: Path, name: Path) -> int:
    """An open lock file that is ours."""
    while True:
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(file, 1000).decode(errors="replace") or "another process"
            os.close(file)
            raise Mistake(f"{path}: {owner} is writing it; wait for that, or choose another name") from None
        except OSError:
            pass  # no locks here
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), name.stat()):
                break
        os.close(file)  # its owner has just removed it
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
        os.ftruncate(file, 0)
        command = " ".join(shlex.join(sys.orig_argv).split())[:200]
        owner = f"process {os.getpid()} on {os.uname().nodename} ({command})"
        os.write(file, owner.encode(errors="replace"))
    return file
