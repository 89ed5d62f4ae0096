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

from stableavatar_jax.errors import Mistake
from stableavatar_jax.training.batches import Batches, Reader, Ready
from stableavatar_jax.training.logs import Log
from stableavatar_jax.training.run import Run, Shapes, fresh_state
from stableavatar_jax.training.saving import Checkpoints
from stableavatar_jax.training.speed import speed
from stableavatar_jax.training.state import TrainState

IN_FLIGHT = 2  # steps whose measurements have not been asked for: the devices always have one more to do

Validate = Callable[[int, TrainState], None]
"""Called every `validate_every` steps, with the step and the state; it may sample, and must not keep the state."""


def train(run: Run, batches: Batches, *, validate: Validate | None = None) -> TrainState:
    """Go on to `config.steps` from the last checkpoint, or from the start where there is none; return the state.

    SIGTERM and the first Ctrl-C save and return early. Raises Mistake where a loss is not finite, the data ends,
    or a checkpoint cannot be written or read.
    """
    config = run.config
    with contextlib.closing(Checkpoints(config.run_dir, config.keep)) as checkpoints:
        checkpoints.clear()
        if checkpoints.latest is None:
            state = fresh_state(run)
        else:
            state, place = checkpoints.restore(run.abstract)
            batches.set_state(place)
        return _steps(run, state, batches, checkpoints, validate)


def _steps(
    run: Run, state: TrainState, batches: Batches, checkpoints: Checkpoints, validate: Validate | None
) -> TrainState:
    config = run.config
    start = int(state.step)
    with contextlib.ExitStack() as stack:
        log = None
        if jax.process_index() == 0:
            log = stack.enter_context(contextlib.closing(Log(config.run_dir, start, config.steps, config.log_every)))
        reader = stack.enter_context(contextlib.closing(Reader(batches, run.mesh)))
        stop = stack.enter_context(_signals())
        measured = Measurements(run, log)
        for step in range(start + 1, config.steps + 1):
            ready = _next(reader, step)
            with run.on_mesh():
                state, metrics = run.step(state, ready.batch)
            measured.add(step, metrics, ready, reader.waited)
            stopping = _agreed(stop, step)
            if step % config.checkpoint_every == 0 or step == config.steps or stopping:
                measured.finish()  # a state that is not finite is never saved
                checkpoints.save(state, ready.state, measured.mean_loss())
            if validate and config.validate_every and step % config.validate_every == 0:
                measured.finish()
                validate(step, state)
                measured.restart_clock()
            if stopping:
                break
    return state


class Measurements:
    """Takes each step's measurements from the devices two steps later, so that these never wait for it."""

    def __init__(self, run: Run, log: Log | None):
        self.run, self.log = run, log
        self.pending: deque[tuple[int, Mapping[str, jax.Array], Shapes, float]] = deque()
        self.losses: list[float] = []
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

    def mean_loss(self) -> float:
        """Mean loss since the last call."""
        mean = math.fsum(self.losses) / len(self.losses)
        self.losses.clear()
        return mean

    def restart_clock(self) -> None:
        """Leave out of the next step's time what was done since the last."""
        self.clock = time.perf_counter()

    def _take(self) -> None:
        step, metrics, shapes, waited = self.pending.popleft()
        values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
        _check_finite(step, values)
        self.losses.append(values["loss"])
        now = time.perf_counter()
        seconds, waiting = now - self.clock, waited - self.waited
        self.clock, self.waited = now, waited
        flops = self.run.flops(shapes) if self.run.flops else None
        devices = self.run.mesh.devices.ravel().tolist()
        timing = {"seconds": seconds, "waiting_for_input": min(1.0, waiting / seconds)}
        if self.log:
            self.log.record(step, values | timing | speed(flops, next(iter(shapes.values()))[0], seconds, devices))


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
    """An event that SIGTERM or Ctrl-C sets; a second one ends the program as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[signal.Signals, Any] = {}

    def handle(number, frame):
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    # With several processes JAX itself listens for SIGTERM and tells all of them (`_agreed`).
    for number in (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else ():
        before[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _agreed(stop: threading.Event, step: int) -> bool:
    """Whether to stop after this step; in a multi-process run all processes stop after the same one."""
    if jax.process_count() == 1:
        return stop.is_set()
    return multihost_utils.reached_preemption_sync_point(step)
