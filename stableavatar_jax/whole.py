"""Files and folders that are there whole or not at all: the one way in which any command writes.

While NAME is written, what is finished of it lies beside it as `.NAME.part`, and `.NAME.lock` belongs to the process
that writes. The lock ends with its process: what a killed run leaves is no obstacle, and goes with the next run.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from stableavatar_jax.errors import ROOM, Mistake, explained
from stableavatar_jax.locks import alone, hidden
from stableavatar_jax.words import size

NAME_BYTES = 255
"""Bytes that a name may have on the file systems in use."""


@contextlib.contextmanager
def whole(
    path: Path,
    *,
    folder: bool = False,
    replace: bool | None = None,
    inputs: Iterable[Path | None] = (),
    space: int = 0,
    advice: str = ROOM,
) -> Iterator[Path]:
    """A hidden path beside `path`, to write a file or make a folder at; it takes the name `path` when all went well.

    On any failure, Ctrl-C too, what was written is removed and what was there before stays. Meanwhile `path` belongs to
    this process (`alone`). The rest is as in `check_output`; `advice` ends the message where writing fails. Of several
    processes that write one folder together, the first enters this and the others write to `hidden(path)`.
    """
    check_output(path, folder=folder, replace=replace, inputs=inputs, space=space)
    with explained(path, advice, only=(str(path), str(hidden(path, "")))):
        if folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path):
            partial, old = hidden(path), hidden(path, ".old")
            if old.exists() and not path.exists():
                old.rename(path)  # a run was killed between two renames
            if folder or partial.exists():
                _clear(partial)
            try:
                yield partial
                _permit(partial)
                _rename(partial, path, old)
            except BaseException:
                _clear(partial)
                raise


def check_output(
    path: Path,
    *,
    folder: bool = False,
    replace: bool | None = None,
    inputs: Iterable[Path | None] = (),
    space: int = 0,
) -> None:
    """Raise Mistake where `path` cannot be written later; nothing is left behind.

    A file lies in a folder that is there, and takes the place of an older one. A `folder` is made with the folders
    above it; one that holds something is replaced only if told (`replace`, None
    where the command has no such option). Neither may be one of the `inputs` (files or folders,
    None is passed over), lie in one, or hold one; nor may another process be writing it. `space` is its size in bytes.
    """
    if len(os.fsencode(path.name)) > NAME_BYTES:
        raise Mistake(f"{path}: cannot be written (its name has more than {NAME_BYTES} bytes); choose a shorter one")
    with explained(path):
        if folder:
            check_folder(path, space=space)
        elif not path.parent.is_dir():
            raise Mistake(f"{path}: there is no folder {path.parent}; make it first")
        _check_inputs(path, inputs, holding=folder)
        if folder and path.is_dir():
            if not replace and any(path.iterdir()):
                advice = "" if replace is None else "pass --overwrite to replace it, or "
                raise Mistake(f"{path} exists already; {advice}choose another folder")
        elif os.path.lexists(path) and (folder or not path.is_file()):
            found = "a folder" if path.is_dir() else "a file" if path.is_file() else "no plain file"
            raise Mistake(f"{path}: is {found}; choose another name")
        if path.parent.is_dir():
            _check_space(path.parent, space)
            with alone(path):
                pass


def check_outputs(*outputs: tuple[Path | None, int], inputs: Iterable[Path | None] = ()) -> None:
    """`check_output` of several files with their sizes in bytes: they differ, and there is room for all of them."""
    wanted = [(path, size) for path, size in outputs if path is not None]
    inputs = list(inputs)
    for number, (path, _) in enumerate(wanted):
        check_output(path, inputs=inputs)
        if os.path.realpath(path) in [os.path.realpath(other) for other, _ in wanted[:number]]:
            raise Mistake(f"{path}: two results would be written to it; give each a name of its own")
    for device in {path.parent.stat().st_dev for path, _ in wanted}:
        there = [(path, size) for path, size in wanted if path.parent.stat().st_dev == device]
        _check_space(there[0][0].parent, sum(size for _, size in there))


def check_folder(path: Path, *, inputs: Iterable[Path | None] = (), space: int = 0) -> None:
    """Raise Mistake unless `path` is a folder, or can become one, in which files of `space` bytes can be made.

    It may hold inputs, but be none and lie in none.
    """
    with explained(path):
        _check_inputs(path, inputs)
        there = path.absolute()
        while not os.path.lexists(there):
            there = there.parent
        if not there.is_dir():
            found = "is no folder" if there == path.absolute() else f"{there} is no folder"
            raise Mistake(f"{path}: {found}; choose another place")
        with tempfile.TemporaryFile(dir=there):
            pass
        _check_space(there, space)


def copy(source: Path, path: Path) -> None:
    """Copy a file, whole or not at all; nothing is done where the two names are of one file."""
    if not (path.exists() and path.samefile(source)):
        with whole(path) as partial:
            shutil.copyfile(source, partial)


def _check_space(folder: Path, space: int) -> None:
    free = shutil.disk_usage(folder).free
    if space > free:
        raise Mistake(f"{folder}: {size(space)} are needed there, {size(free)} are free; make room")


def _check_inputs(path: Path, inputs: Iterable[Path | None], holding: bool = False) -> None:
    place = Path(os.path.realpath(path))
    for given in inputs:
        if given is None or not os.path.exists(given):  # noqa: PTH110 (false, and no error, where it cannot be seen)
            continue
        real = Path(os.path.realpath(given))
        if place == real or path.exists() and path.samefile(given):
            raise Mistake(f"{path}: is an input too ({given}), and would be written over; choose another name")
        if place.is_relative_to(real):
            raise Mistake(f"{path}: lies in {given}, which is read; choose another place")
        if holding and real.is_relative_to(place):
            raise Mistake(f"{path}: holds {given}, which is read; choose another place")


def _permit(partial: Path) -> None:
    """The permissions of what is made here: libraries make some files for their owner alone."""
    mask = os.umask(0o077)
    os.umask(mask)
    with contextlib.suppress(OSError):  # file systems without permissions
        partial.chmod((0o777 if partial.is_dir() else 0o666) & ~mask)


def _rename(partial: Path, path: Path, old: Path) -> None:
    if not path.is_dir():
        partial.replace(path)
        return
    _remove(old)
    path.rename(old)
    try:
        partial.rename(path)
    except BaseException:
        old.rename(path)
        raise
    _remove(old)


def _clear(partial: Path) -> None:
    """Remove what was written, and what libraries leave beside it under longer names; other outputs' stays."""
    for each in list(partial.parent.iterdir()):
        if each.name.startswith(partial.name) and (each == partial or not each.name.endswith((".part", ".lock"))):
            _remove(each)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
