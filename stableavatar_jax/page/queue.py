"""The videos that are wanted: they wait in a line and are made one after another, as those of a list of jobs are."""

import dataclasses
import functools
import logging
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from stableavatar_jax.errors import Mistake, explained
from stableavatar_jax.locks import alone
from stableavatar_jax.page.progress import Progress
from stableavatar_jax.page.sofar import SoFar
from stableavatar_jax.page.wanted import LOOK, VIDEO, State, Wanted
from stableavatar_jax.plan import cost
from stableavatar_jax.plan.machine import Machine, machine
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.sampling.jobs import Maker
from stableavatar_jax.sampling.jobs_file import Listed
from stableavatar_jax.sampling.jobs_plan import Group, Planned, groups, keeps, look
from stableavatar_jax.sampling.paths import check_given
from stableavatar_jax.sampling.progress import Event


class Cancelled(Exception):
    """A video is not wanted any more."""


class Queue:
    """Makes videos in a thread of its own, in the order in which they were wanted.

    >>> with Queue(config, avatar, folder) as queue:
    ...     wanted = queue.add({"image": "face.png", "audio": "speech.wav", "seed": 3})

    Every video has a folder of its own in `folder`. Of one that failed or was cancelled nothing is left.
    """

    def __init__(self, config: SampleConfig, avatar: Avatar, folder: Path):
        """`config` has the defaults of every video. No other process may have the folder."""
        self._config = dataclasses.replace(config, model=avatar.model)
        self._avatar, self._folder = avatar, folder
        self._maker = Maker(avatar, self)
        self._line: list[Wanted] = []  # the first is being made
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="queue", daemon=True)

    def __enter__(self) -> "Queue":
        with explained(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._alone = alone(self._folder / "page")
        self._alone.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for wanted in list(self._line):
            self.cancel(wanted)
        self._thread.join()
        self._alone.__exit__(None, None, None)

    def add(self, options: dict[str, Any]) -> Wanted:
        """Want a video, by options with their names on the command line; its inputs are copied. Raises Mistake for
        those that a command line would be refused for.
        """
        config = self._checked(options)
        folder = self._folder / secrets.token_hex(8)
        try:
            with explained(folder):
                (folder / "inputs").mkdir(parents=True)
                given = {name: _copy(path, folder / "inputs" / name) for name, path in _inputs(config).items()}
            config = change(config, **given, output=folder / VIDEO, preview=folder / LOOK)
            wanted = Wanted(Listed(line=1, config=config))
            with self._changed:
                if self._closed:
                    raise Mistake("the page is being closed")
                self._line.append(wanted)
                self._changed.notify_all()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return wanted

    def cancel(self, wanted: Wanted) -> None:
        """Take a video out of the line; one that is being made ends before the next call of a program."""
        with self._changed:
            wanted.cancelled = True
            if wanted.state == "waits":
                self._line.remove(wanted)
                self._end(wanted, "cancelled")

    def ahead(self, wanted: Wanted) -> int:
        """Videos that are made before it."""
        with self._changed:
            return self._line.index(wanted) if wanted in self._line else 0

    def plan(self, options: dict[str, Any]) -> tuple[str, list[str]]:
        """What a video would cost, in words, and what is noticed of its inputs. Raises Mistake."""
        notices: list[str] = []
        with _noticed(notices):
            planned = look(Listed(line=1, config=change(self._checked(options), output=self._folder / VIDEO)))
        if planned.fault:
            raise planned.fault
        return self._told(groups([planned], keeps([planned]), self._avatar.devices)[0]), notices

    def _checked(self, options: dict[str, Any]) -> SampleConfig:
        config = change(self._config, **options)
        check_given(config)
        return config

    def _work(self) -> None:
        while (wanted := self._next()) is not None:
            try:
                self._make(wanted)
            except Exception as error:  # such as a full disk, which ends a list: here the next user may want less
                self.failed(wanted.listed, error)
            with self._changed:
                self._line.remove(wanted)

    def _next(self) -> Wanted | None:
        with self._changed:
            self._changed.wait_for(lambda: self._line or self._closed)
            if not self._line:
                return None
            self._line[0].state = "is made"
            return self._line[0]

    def _make(self, wanted: Wanted) -> None:
        with _noticed(wanted.notices):
            planned = look(wanted.listed)
            if planned.fault:
                raise planned.fault
            self._avatar.parts.keep = keeps([planned])
            [group] = groups([planned], self._avatar.parts.keep, self._avatar.devices)
            config = dataclasses.replace(planned.job.config, denoising=group.denoising)
            took = cost.seconds(config, cost.plan(config, planned.known, self._avatar.devices), self._machine)
            wanted.plan = self._told(group)
            wanted.progress = Progress(took, planned.known.frames)
            wanted.so_far = SoFar(config, planned.known.frames)
            self._maker.make(group)

    @functools.cached_property
    def _machine(self) -> Machine:
        return machine(jax.local_devices()[0], self._config.weights.dtype).times(self._avatar.devices)

    def _told(self, group: Group) -> str:
        [planned] = group.jobs
        config = dataclasses.replace(planned.job.config, denoising=group.denoising)
        costs = cost.plan(config, planned.known, self._avatar.devices)
        return f"{cost.describe(config, costs, self._machine)}\n{self._avatar.told(group.denoising)}"

    def __call__(self, event: Event) -> None:
        """Listen to the video that is being made. Raises Cancelled where it is not wanted any more."""
        wanted = self._line[0]
        if wanted.cancelled:
            raise Cancelled
        assert wanted.progress and wanted.so_far
        wanted.progress(event)
        wanted.so_far(event)

    def made(self, planned: Planned, seconds: float) -> None:
        """A video stands."""
        self._end(self._line[0], "stands")

    def failed(self, job: Listed, error: Exception) -> None:
        """A video cannot be made."""
        wanted = self._line[0]
        if not isinstance(error, Mistake | Cancelled):
            logging.getLogger(__name__).error("%s: a bug", job.output, exc_info=error)
        if not isinstance(error, Cancelled):
            wanted.error = plain(error, *_inputs(job.config).values())
        self._end(wanted, "cancelled" if isinstance(error, Cancelled) else "failed")

    def _end(self, wanted: Wanted, state: State) -> None:
        """Remove what is not needed any more, before anybody is told."""
        if state != "stands":
            shutil.rmtree(wanted.folder, ignore_errors=True)
        else:
            shutil.rmtree(wanted.folder / "inputs", ignore_errors=True)
            (wanted.folder / LOOK).unlink(missing_ok=True)
            if wanted.so_far:
                wanted.so_far.remove()
        wanted.state = state


def plain(error: Exception, *paths: Path) -> str:
    """An error as the command line tells it, with the names of files and not the folders they were put in."""
    told = str(error) if isinstance(error, Mistake) else f"{type(error).__name__}: {error}"
    for path in paths:
        told = told.replace(str(path), path.name)
    return told


def _inputs(config: SampleConfig) -> dict[str, Path]:
    """The picture and the sound."""
    found = {"image": config.inputs.image, "audio": config.inputs.audio}
    return {name: path for name, path in found.items() if path is not None}


def _copy(path: Path, folder: Path) -> Path:
    folder.mkdir()
    return Path(shutil.copyfile(path, folder / path.name))


@contextmanager
def _noticed(notices: list[str]) -> Iterator[None]:
    """Gather what this thread would tell on the command line."""

    class Gather(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                notices.append(record.getMessage())

    thread, ours, gather = threading.get_ident(), logging.getLogger("stableavatar_jax"), Gather(logging.WARNING)
    ours.addHandler(gather)
    try:
        yield
    finally:
        ours.removeHandler(gather)
