"""The one form of every command: options in a dataclass, `run()` that does the work, one screen on a mistake.

A command is a frozen dataclass whose fields are its options and whose `run()` imports what it needs, so that a mistyped
option is answered before JAX is loaded.
"""

import contextlib
import inspect
import logging
import os
import select
import shlex
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stableavatar_jax import startup  # noqa: F401  its clock begins here
from stableavatar_jax.compiling import no_device
from stableavatar_jax.errors import Mistake, of_machine
from stableavatar_jax.options import nearest, parse_options, take, wrapped

Commands = type[Any] | Mapping[str, type[Any]]


class Stopped(KeyboardInterrupt):
    """The process was asked to end by another signal than Ctrl-C's."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def main(
    commands: Commands,
    argv: Sequence[str] | None = None,
    *,
    about: str = "",
    by: str = "",
    default: str = "",
    run: Callable[[Any], int | None] | None = None,
    start: Callable[[Sequence[str]], Any] | None = None,
) -> int:
    """Parse, run, and return the exit status: 0, or what `run()` returns; 1 for a mistake, 2 for one in the arguments;
    128 and the number of the signal when stopped (130 for Ctrl-C).

    `commands` is one class of options, or one for each command: `NAME [options]`, or with `by` an option that names one
    of them (`--part NAME`, else `default`). `about` is their common --help. `run` does the work of a class that has no
    `run()`; `start` makes the options that the arguments change where no `--config` does. What is no Mistake is a bug
    and keeps its traceback. SIGTERM and SIGHUP end a run as Ctrl-C does, so that half-written files go; a closed pipe
    ends it too.
    """
    logging.basicConfig(format="%(message)s")  # before a library does it, with a notice's level and file in each line
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show ends no run
    try:
        with _signals():
            status = _run(commands, list(sys.argv[1:] if argv is None else argv), about, by, default, run, start)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt as stop:
        number = getattr(stop, "number", signal.SIGINT)
        print("stopped" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}", file=sys.stderr)
        return 128 + number
    except BrokenPipeError:
        if not _pipe_is_closed():
            raise
        with contextlib.suppress(OSError, ValueError):  # what is still to be printed goes nowhere, in silence
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if (told := of_machine(error)) is None:
            raise
        print(f"error: {told}", file=sys.stderr)
        return 1


def program() -> str:
    """How this program was called: `python -m stableavatar_jax.data`, `python sample.py`, `stableavatar-sample`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    name = Path(sys.argv[0]).name or "python"
    return f"python {shlex.quote(name)}" if name.endswith(".py") else name


def _run(
    commands: Commands, argv: list[str], about: str, by: str, default: str,
    run: Callable[[Any], int | None] | None, start: Callable[[Sequence[str]], Any] | None,
) -> int:  # fmt: skip
    try:
        if not isinstance(commands, Mapping):
            options = parse_options(commands, argv, program=program(), default=start(argv) if start else None)
        elif by:
            name = _known(take(argv, by) or default, commands, by)
            more = {f"{by} {{{','.join(commands)}}}": f"{about} (default: {default})"}
            options = parse_options(commands[name], argv, program=f"{program()} {by} {name}", more=more)
        else:
            if not argv or argv[0] in ("-h", "--help"):
                print(_overview(commands, about))
                return 0 if argv else 2
            name = _known(argv[0], commands, "command")
            begin = start(argv[1:]) if start else None
            options = parse_options(commands[name], argv[1:], program=f"{program()} {name}", default=begin)
    except Mistake as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except SystemExit as end:  # after --help
        return int(end.code or 0)
    try:
        return int((run(options) if run else options.run()) or 0)
    except Mistake as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (RuntimeError, AssertionError):
        if (told := no_device()) is None:
            raise
        print(f"error: {told}", file=sys.stderr)
        return 1


def _known(name: str, commands: Mapping[str, type[Any]], what: str) -> str:
    if name not in commands:
        near = nearest(name, list(commands))
        advice = f"did you mean {near}?" if near else f"there are {', '.join(commands)}"
        raise Mistake(f"{what} {name!r} is unknown; {advice}")
    return name


def _overview(commands: Mapping[str, type[Any]], about: str) -> str:
    width = 2 + max(map(len, commands))
    usage = f"usage: {program()} COMMAND [options]\n\n"
    listed = [
        textwrap.fill(
            (inspect.getdoc(cls) or "").splitlines()[0], min(shutil.get_terminal_size().columns, 100) - 1,
            initial_indent=f"  {name:{width}}", subsequent_indent=" " * (width + 2),
        )
        for name, cls in commands.items()
    ]  # fmt: skip
    return f"{usage}{wrapped(about)}\n\ncommands (COMMAND --help lists its options):\n" + "\n".join(listed)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Raise `Stopped` on SIGTERM and SIGHUP, unless they are ignored (nohup) or handled already."""

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, stop)
    before, sys.unraisablehook = sys.unraisablehook, _again(sys.unraisablehook)
    try:
        yield
    finally:
        sys.unraisablehook = before
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _again(other: Callable[[Any], object]) -> Callable[[Any], object]:
    """A hook that sends a signal again whose exception nobody saw: Python drops what is raised in a destructor, and
    JAX has callbacks of the garbage collector. `other` is told of all else.
    """

    def hook(dropped: Any) -> None:
        stop = dropped.exc_value
        if isinstance(stop, KeyboardInterrupt):
            number = getattr(stop, "number", signal.SIGINT)
            threading.Timer(0.01, os.kill, (os.getpid(), number)).start()  # when this hook has returned
        else:
            other(dropped)

    return hook


def _pipe_is_closed() -> bool:
    """Whether nobody reads what is printed any more."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
