"""The one error for what a user can mend."""

import contextlib
import errno
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOM = "make room, or choose a folder you may write to"
"""What to do where nothing can be written; callers with better advice give their own."""
UNWRITTEN = "not written"
"""The reason of a Mistake about a file that cannot be written."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""Errors of writing that come without the file's name."""
NO_BUG = (*FULL, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE)
"""Errors that come from a file or its disk, wherever it is opened."""


class Mistake(ValueError):
    """An input, option, file or machine is not what the work needs.

    Its message is all that a user reads: where, what was found, what is needed, what to do. Commands show it without a
    traceback; any other exception is a bug of ours and shows where it came from. `reason` is the fault in two or three
    words, for tables that count faults.
    """

    def __init__(self, message: str, reason: str = "damaged"):
        super().__init__(message)
        self.reason = reason

    @classmethod
    def at(cls, path: Path, found: str, remedy: str) -> "Mistake":
        """A mistake in a file: what was found there, and what to do."""
        return cls(f"{path}: {found}; {remedy}")


@contextlib.contextmanager
def explained(path: Path, advice: str = ROOM, *, only: tuple[str, ...] = ()) -> Iterator[None]:
    """Turn an OSError into a Mistake about `path`; with `only`, one of a file whose name begins so, or of a full disk.

    Libraries that are not written in Python raise errors of other classes, with the system's number in the message.
    """
    try:
        yield
    except Mistake:
        raise
    except Exception as error:
        told = re.search(r"\bos.error\D{0,9}(\d+)", str(error))
        number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
        name = str(getattr(error, "filename", None) or "")
        ours = name.startswith(only) if name else number in FULL
        if not ours and (only or not isinstance(error, OSError)):
            raise
        why = os.strerror(number) if number else error
        raise Mistake(f"{path}: cannot be written ({why}); {advice}", UNWRITTEN) from error


def of_machine(error: OSError) -> str | None:
    """What to tell of an error that a file or its disk makes, such as one that may not be read; None where it may be a
    bug of ours.
    """
    if error.errno not in NO_BUG or not error.filename:
        return None
    denied = error.errno in (errno.EACCES, errno.EPERM)
    advice = "give yourself permission (chmod), or choose another" if denied else "check the path and its disk"
    return f"{os.fsdecode(error.filename)}: cannot be read or written ({error.strerror}); {advice}"


def need(extra: str, *modules: str) -> None:
    """Raise Mistake where modules that come with an optional extra are not installed. Nothing is imported."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise Mistake(f"{', '.join(missing)}: not installed; the extra `{extra}` has it: pip install -e '.[{extra}]'")
