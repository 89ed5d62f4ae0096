"""Processes that work on a clip each, of which one may die without ending the others."""

import contextlib
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from stableavatar_jax.errors import Mistake

Work = Callable[[Path, str], Any]

CRASHED = "crashed"
"""The reason of a Mistake about a task whose process died."""
PATIENCE = 5
"""Seconds that a process has to remove what it has half written."""


def outcomes(
    begin: Callable[[Any], Work], options: Any, tasks: Mapping[str, Path], count: int
) -> Iterator[tuple[str, Any]]:
    """Name and outcome of every task, as they are finished by `count` processes.

    `begin(options)` makes the function that a process calls with the path and the name of a task. The outcome of a task
    whose process dies, whatever it died of, is a Mistake that names it; another process takes the next task.
    """
    waiting = list(tasks.items())[::-1]
    busy: list[_Worker] = []
    try:
        busy = [_Worker(begin, options) for _ in range(min(count, len(waiting)))]
        for worker in busy:
            worker.give(*waiting.pop())
        while busy:
            for pipe in wait([worker.pipe for worker in busy]):
                worker = next(each for each in busy if each.pipe is pipe)
                yield worker.name, worker.outcome()
                busy.remove(worker)
                if waiting:
                    busy.append(worker if worker.process.is_alive() else _Worker(begin, options))
                    busy[-1].give(*waiting.pop())
                else:
                    worker.stop()
    finally:
        for _ in range(2):  # Python drops an exception that a signal raises within a destructor or its collector
            for worker in busy:
                worker.process.terminate()
            for worker in busy:
                worker.process.join(PATIENCE)
        for worker in busy:
            worker.process.kill()


class _Worker:
    """A process and the task that it works on."""

    def __init__(self, begin: Callable[[Any], Work], options: Any):
        context = multiprocessing.get_context("spawn")  # threads of LiteRT and FFmpeg do not survive a fork
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, begin, options), daemon=True)
        self.process.start()
        theirs.close()
        self.name, self._path, self._begun = "", Path(), False

    def give(self, name: str, path: Path) -> None:
        """Begin a task."""
        self.name, self._path = name, path
        self.pipe.send((path, name))

    def outcome(self) -> Any:
        """What the task led to."""
        try:
            if not self._begun:
                self._begun = self.pipe.recv()
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
        if not self._begun:
            raise RuntimeError(f"a process for {self.name} ended with status {self.process.exitcode} before it began")
        code = self.process.exitcode or 0
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        more = ", as when memory runs out" if code == -signal.SIGKILL else ""
        return Mistake(
            f"{self._path}: the process that read it ended with {how}{more}; export the clip again", CRASHED
        )

    def stop(self) -> None:
        """End the process, which waits for a task or is dead."""
        if self.process.is_alive():
            self.pipe.send(None)
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, begin: Callable[[Any], Work], options: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the first process ends the others
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # not at once: half-written files are to go
    work = begin(options)
    with contextlib.suppress(EOFError, ConnectionError):  # the first process is dead
        pipe.send(True)
        while task := pipe.recv():
            pipe.send(work(*task))
