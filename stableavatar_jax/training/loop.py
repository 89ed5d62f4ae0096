"""The loop around the step: it feeds the devices, keeps what they measured, saves, and stops in good order."""

import contextlib
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax.experimental import multihost_utils

from stableavatar_jax import hosts, startup
from stableavatar_jax.config import to_json
from stableavatar_jax.data.iterator import CheckpointableIterator
from stableavatar_jax.errors import Mistake
from stableavatar_jax.training.directory import write_own
from stableavatar_jax.training.logs import Log, say
from stableavatar_jax.training.reading import Reader, Ready
from stableavatar_jax.training.run import Run, Shapes, fresh_state
from stableavatar_jax.training.saving import Checkpoints
from stableavatar_jax.training.speed import speed
from stableavatar_jax.training.state import TrainState
from stableavatar_jax.words import duration

IN_FLIGHT = 2  # steps whose measurements have not been asked for: the devices always have one more to do

Validate = Callable[[int, TrainState], None]
"""Called every `validate_every` steps, with the step and the state; it may sample, and must not keep the state."""


def train(run: Run, batches: CheckpointableIterator, *, validate: Validate | None = None) -> TrainState:
    """Go on to `config.steps` from the last checkpoint, or from the start where there is none; return the state.

    SIGTERM, SIGHUP and the first Ctrl-C save and return early. Raises Mistake where a loss is not finite, the data
    ends, or a checkpoint cannot be written or read.
    """
    config = run.config
    with contextlib.closing(Checkpoints(config.run_dir, config.keep)) as checkpoints:
        checkpoints.clear()
        if checkpoints.latest is None:
            say(f"weights: {config.checkpoint or f'drawn from seed {config.seed}'}")
            with startup.weights():
                state = jax.block_until_ready(fresh_state(run))
        else:
            say(f"going on from step {checkpoints.latest} of {config.run_dir}")
            with startup.weights():
                state, place = checkpoints.restore(run.abstract)
            batches.set_state(place)
        with hosts.together(checkpoints.lost):
            return _steps(run, state, batches, checkpoints, validate)


def _steps(
    run: Run,
    state: TrainState,
    batches: CheckpointableIterator,
    checkpoints: Checkpoints,
    validate: Validate | None,
) -> TrainState:
    config = run.config
    start = int(state.step)
    with contextlib.ExitStack() as stack:
        log = None
        if hosts.is_first():
            log = Log(config.run_dir, start, config.steps, config.log_every, to_json(config))
            stack.enter_context(contextlib.closing(log))
        reader = stack.enter_context(contextlib.closing(Reader(batches, run.mesh)))
        stop = stack.enter_context(_signals())
        measured = Measurements(run, log, checkpoints)
        compiled = Compiled(run)
        for step in range(start + 1, config.steps + 1):
            ready = _next(reader, step)
            state, metrics = compiled(state, ready.batch)
            if step == start + 1:
                write_own(config, run.sampling)  # not before: what fails without a step leaves nothing behind
                jax.block_until_ready(metrics)
                say(startup.told())
            measured.add(step, metrics, ready, reader.waited)
            stopping = _agreed(stop, step)
            if step % config.checkpoint_every == 0 or step == config.steps or stopping:
                measured.finish()  # a state that is not finite is never saved
                checkpoints.save(state, ready.state)
            if validate and config.validate_every and step % config.validate_every == 0:
                measured.finish()
                validate(step, state)
                if log:
                    log.validated(step)
                measured.restart_clock()
            if stopping:
                break
    return state


class Compiled:
    """The run's step, which says when it is compiled: once for every shape of a batch."""

    def __init__(self, run: Run):
        self.run = run
        self.seen: set[tuple[Any, ...]] = set()

    def __call__(
        self, state: TrainState, batch: Mapping[str, jax.Array]
    ) -> tuple[TrainState, Mapping[str, jax.Array]]:
        """Send a step off."""
        shape = tuple((name, x.shape) for name, x in sorted(batch.items()))
        begun = time.perf_counter()
        if new := shape not in self.seen:
            self.seen.add(shape)
            name, size = next((n, x.shape) for n, x in batch.items())
            again = f" (shape {len(self.seen)} of the data)" if len(self.seen) > 1 else ""
            say(f"compiling the step for {name} of {'x'.join(map(str, size))}{again}")
        with self.run.on_mesh():
            if new and hosts.count() > 1:
                self.run.step.lower(state, batch).compile()
                hosts.wait_for_all(f"compiled {len(self.seen)}")
            sent = self.run.step(state, batch)
        if new:
            say(f"compiled in {duration(time.perf_counter() - begun)}")
        return sent


class Measurements:
    """Takes each step's measurements from the devices two steps later, so that these never wait for it."""

    def __init__(self, run: Run, log: Log | None, checkpoints: Checkpoints):
        self.run, self.log, self.checkpoints = run, log, checkpoints
        self.pending: deque[tuple[int, Mapping[str, jax.Array], Shapes, float]] = deque()
        self.clock, self.waited = time.perf_counter(), 0.0

    def add(self, step: int, metrics: Mapping[str, jax.Array], ready: Ready, waited: float) -> None:
        """Note a step that was sent off; `waited` is the seconds spent waiting for input so far."""
        self.pending.append((step, metrics, {name: x.shape for name, x in ready.batch.items()}, waited))
        if len(self.pending) > IN_FLIGHT:
            self._take()

    def finish(self) -> None:
        """Wait for every step sent off."""
        while self.pending:
            self._take()

    def restart_clock(self) -> None:
        """Leave out of the next step's time what was done since the last."""
        self.clock = time.perf_counter()

    def _take(self) -> None:
        step, metrics, shapes, waited = self.pending.popleft()
        values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
        _check_finite(step, values)
        now = time.perf_counter()
        seconds, waiting = now - self.clock, waited - self.waited
        self.clock, self.waited = now, waited
        flops = self.run.flops(shapes) if self.run.flops else None
        timing = {"seconds": seconds, "waiting_for_input": min(1.0, waiting / seconds)}
        if self.log:
            rows = next(iter(shapes.values()))[0]
            try:
                self.log.record(step, values | timing | speed(flops, rows, seconds, self.run.devices))
            except OSError as error:
                found = f"cannot be written ({error.strerror})"
                raise Mistake(f"{self.log.path}: {found}; {self.checkpoints.advice()}") from error


def _check_finite(step: int, values: Mapping[str, float]) -> None:
    bad = [name for name in ("loss", "gradient_norm") if not math.isfinite(values[name])]
    if bad:
        shown = ", ".join(f"{name} {value:.3g}" for name, value in values.items() if math.isfinite(value))
        raise Mistake(
            f"step {step}: {' and '.join(bad)} not finite ({shown}); nothing was saved since the last checkpoint. Look "
            "for data that are not finite (python -m stableavatar_jax.data inspect), or lower the learning rate"
        )


def _next(reader: Iterator[Ready], step: int) -> Ready:
    try:
        return next(reader)
    except StopIteration:
        raise Mistake(f"the data ended before step {step}; its iterator must repeat") from None


@contextlib.contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGTERM, SIGHUP or Ctrl-C sets; a second one ends the program as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[signal.Signals, Any] = {}

    several = hosts.count() > 1

    def handle(number, frame):
        hosts.stop_all() if several else stop.set()
        signal.signal(number, before[signal.Signals(number)])

    # With several processes JAX itself listens for SIGTERM and tells all of them (`_agreed`).
    for number in (signal.SIGINT, signal.SIGHUP) if several else (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        before[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _agreed(stop: threading.Event, step: int) -> bool:
    """Whether to stop after this step; in a multi-process run all processes stop after the same one."""
    if hosts.count() == 1:
        return stop.is_set()
    return multihost_utils.reached_preemption_sync_point(step)
