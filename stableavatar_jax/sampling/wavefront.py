"""The wavefront order: all steps at once, each on a window of its own, so that memory does not grow with the video.

The windows on the line (`diffusion/order.py`) that are at some step make one diagonal. Each has its frames for itself,
so a diagonal is evaluated in micro-batches of R rows, in any division. Between diagonals every step hands its first
stride to the next step, the last step's is finished, and noise comes in before the first.
"""

import functools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion import order, solvers
from stableavatar_jax.diffusion.order import Arrival, Line, Place
from stableavatar_jax.diffusion.solvers import Solver
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.sampling.program import (
    IN_FLIGHT,
    Block,
    Join,
    Order,
    Own,
    Source,
    VelocityFn,
    make_program,
    not_finite,
    one_video,
)
from stableavatar_jax.sampling.progress import Denoised, Standing, State, Tell, silent
from stableavatar_jax.shapes import Array, Bool, Float, Int


class Front(NamedTuple):
    """What is on the line, on the device; K windows meet in a frame, S frames are a stride, M windows on the line."""

    z: Float[Array, "steps KS H W C"]
    """Latents of the window at each step, float32; its frames are the first of these."""
    kept: Float[Array, "Q steps KS H W C"]
    """What the solver keeps of them."""
    tail: Float[Array, "steps overlap H W C"]
    """What the last window at each step left to the next one."""
    sound: Float[Array, "M ..."]
    """What the windows on the line have for themselves, the oldest first."""


class Rows(NamedTuple):
    """Micro-batches of rows; a row that is none has a step past the last."""

    step: Int[np.ndarray, "batches R"]
    window: Int[np.ndarray, "batches R"]
    live: Bool[np.ndarray, "batches R"]
    video: Int[Array | np.ndarray, "batches R"]


def make_advance(
    velocity: VelocityFn, solver: Solver, config: WindowConfig, platform: str = "cpu"
) -> Callable[..., tuple[Front, Bool[Array, "batches R"]]]:
    """Some micro-batches of a diagonal, jitted; compiled once.

    `advance(front, rows, shared)` gives the front with these rows stepped, and whether the velocities of each were
    finite. The front is donated.
    """
    program = make_program(velocity, solver, config)
    stride = config.stride
    reach = order.reach(config.window, config.overlap)

    def advance(front: Front, rows: Rows, shared: Any) -> tuple[Front, Array]:
        def batch(line: tuple[Array, Array, Array], row: Rows) -> tuple[tuple[Array, Array, Array], Array]:
            z, kept, tail = line
            at = jnp.minimum(row.step, solver.steps - 1)
            own = Own(front.sound[reach * (solver.steps - 1 - at)], row.video)
            stepped, keep, left, finite = program(
                z[at, : config.window], kept[:, at, :stride], tail[at], at, row.window, row.live, shared, own
            )
            # Rows that are none are past the end of the axis, where nothing is written.
            z = z.at[row.step, :stride].set(stepped, mode="drop")
            kept = kept.at[:, row.step, :stride].set(keep, mode="drop")
            return (z, kept, tail.at[row.step].set(left, mode="drop")), finite

        line, finite = jax.lax.scan(batch, (front.z, front.kept, front.tail), rows)
        return Front(*line, front.sound), finite

    return jax.jit(advance, donate_argnums=0, compiler_options=compiler_options(platform))


@functools.partial(jax.jit, donate_argnums=0)
def move(front: Front, noise: Float[Array, "S H W C"], sound: Float[Array, "..."]) -> Front:
    """The front of the next diagonal. Every step hands on its first stride; noise enters before the first step."""
    stride = len(noise)
    entering = jnp.concatenate([noise[None], front.z[:-1, :stride]])
    z = jnp.concatenate([front.z[:, stride:], entering], 1)
    fresh = jnp.zeros((len(front.kept), 1, *noise.shape), jnp.float32)
    kept = jnp.concatenate([front.kept[:, :, stride:], jnp.concatenate([fresh, front.kept[:, :-1, :stride]], 1)], 2)
    return Front(z, kept, front.tail, jnp.concatenate([front.sound[1:], sound[None]]))


def make_wavefront(
    velocity: VelocityFn, solver: Solver, config: WindowConfig, platform: str = "cpu", join: Join = one_video
) -> Order:
    """The wavefront order. Videos pass the steps one behind the other; `join` makes what the velocity takes of those
    that are on the line. How many windows a video has may be unknown until its sound ends.
    """
    advance = make_advance(velocity, solver, config, platform)

    def denoise(sources: Sequence[Source], tell: Tell = silent, state: State | None = None) -> Iterator[Block]:
        return _Walk(sources, solver, config, advance, join, tell).walk(state)

    return denoise


class _Walk:
    """One walk over all diagonals."""

    def __init__(
        self, sources: Sequence[Source], solver: Solver, config: WindowConfig, advance: Any, join: Join, tell: Tell
    ):
        self.sources, self.solver, self.config, self.advance, self.tell = sources, solver, config, advance, tell
        self.line = Line(order.reach(config.window, config.overlap), solver.steps)
        self.aboard = Aboard(sources, join, solver.steps)
        self.front: Any = None
        """None until the first window arrives."""
        self.before: list[Array] = []
        """Noise that came before the first window."""
        self.waiting: deque[tuple[Array, list[tuple[int, Place]]]] = deque()
        """Whether calls gave finite numbers, and the rows of each."""
        self.failed: dict[int, int] = {}
        """Step at which a video's velocity was not finite."""
        counts = [source.windows for source in sources]
        self.done, self.of = 0, None if None in counts else solver.steps * sum(count or 0 for count in counts)

    def walk(self, state: State | None) -> Iterator[Block]:
        """Diagonal by diagonal; those that a state has behind it are passed over."""
        begin = state.place if state else {"moves": 0, "calls": 0, "windows": 0}
        videos = (self._sounds(source, begin["windows"]) for source in self.sources)
        windows = 0
        for moves, arrival in enumerate(order.arrivals(videos, self.line.reach, self.solver.steps), 1):
            self.line.move(arrival.place)
            self.aboard.board(arrival)
            windows += bool(arrival.place and arrival.place.live)
            rows = [row for row in self.line.rows() if row[1].video not in self.failed]
            if moves < begin["moves"]:
                self.done += sum(place.live for _, place in rows)
                continue
            calls = self._calls(rows)
            if state and moves == begin["moves"]:
                self.front = Front(**{name: jnp.asarray(array) for name, array in state.arrays.items()})
                made = begin["calls"]
                self.done += sum(place.live for call in calls[:made] for _, place in call)
            else:
                self._move(arrival)
                made = 0
            for number, call in enumerate(calls[made:], made + 1):
                self._call(call)
                if len(self.sources) == 1:
                    # Before the wait, so that what is kept where a signal ends it has not been handed to a call.
                    at = {"moves": moves, "calls": number, "windows": windows}
                    self.tell(Standing(functools.partial(_state, at, self.front)))
                yield from self._report(IN_FLIGHT)
            if final := self.line.finished:
                yield from self._report(0)
                if final.video not in self.failed:
                    stride = self.config.stride
                    yield Block(final.video, final.number * stride, np.asarray(self.front.z[-1, :stride]))

    def _sounds(self, source: Source, passed: int) -> Iterator[Any]:
        """What each window has for itself; nothing for those that are passed over."""
        yield from [None] * passed
        yield from source.sounds(passed)

    def _move(self, arrival: Arrival) -> None:
        """Bring the front to the next diagonal. It is made when the first window arrives."""
        if arrival.noise:
            video, number = arrival.noise
            noise = self.sources[video].noise(number * self.config.stride, self.config.stride)
        else:
            noise = jnp.zeros_like(self.front.z[0, : self.config.stride])
        if self.front is None and arrival.own is None:
            self.before.append(noise)
        elif self.front is None:
            self.front = self._fresh(jnp.concatenate([*self.before, noise]), arrival.own)
        else:
            own = jnp.zeros_like(self.front.sound[0]) if arrival.own is None else arrival.own
            self.front = move(self.front, noise, own)

    def _fresh(self, first: Float[Array, "KS H W C"], own: Any) -> Front:
        """The front with the first window on the line."""
        steps = self.solver.steps
        z = jnp.zeros((steps, *first.shape), jnp.float32).at[0].set(first)
        tail = jnp.zeros((steps, self.config.overlap, *first.shape[1:]))
        sound = jnp.zeros((self.line.reach * (steps - 1) + 1, *own.shape), own.dtype).at[-1].set(own)
        return Front(z, solvers.init(self.solver, z), tail, sound)

    def _calls(self, rows: list[tuple[int, Place]]) -> list[list[tuple[int, Place]]]:
        """The rows of every call of the program."""
        size = self.config.batches * self.config.at_once
        return [rows[i : i + size] for i in range(0, len(rows), size)]

    def _call(self, call: list[tuple[int, Place]]) -> None:
        shape = (self.config.batches, self.config.at_once)
        nothing = [(self.solver.steps, Place(0, 0, False))] * (math.prod(shape) - len(call))
        columns = zip(*((s, p.number, p.live, self.aboard.place(p.video)) for s, p in [*call, *nothing]), strict=True)
        rows = Rows(*(np.asarray(column).reshape(shape) for column in columns))
        self.front, finite = self.advance(self.front, rows, self.aboard.shared())
        self.waiting.append((finite, call))

    def _report(self, in_flight: int) -> Iterator[Block]:
        """Wait for calls until so many are under way; videos that came to an end with them."""
        while len(self.waiting) > in_flight:
            finite, call = self.waiting.popleft()
            for good, (step, place) in zip(np.ravel(finite), call, strict=False):
                if not good and place.video not in self.failed:
                    self.failed[place.video] = step
                    yield Block(place.video, 0, not_finite(step))
            self.done += sum(place.live for _, place in call)
            self.tell(Denoised(self.done, self.of))


class Aboard:
    """The videos on the line, each at a place of its own in what the velocity shares."""

    def __init__(self, sources: Sequence[Source], join: Join, steps: int):
        self._sources, self._join = sources, join
        self._videos = [0] * min(len(sources), steps + 2)  # no more can be on the line at once
        self._joined: Any = None

    def board(self, arrival: Arrival) -> None:
        """A video comes with its first noise."""
        if arrival.noise and self._videos[place := self.place(arrival.noise[0])] != arrival.noise[0]:
            self._videos[place], self._joined = arrival.noise[0], None

    def place(self, video: int) -> int:
        """Place of a video that is on the line."""
        return video % len(self._videos)

    def shared(self) -> Any:
        """What the velocity takes, of the videos on the line."""
        if self._joined is None:
            self._joined = self._join([self._sources[video].shared for video in self._videos])
        return self._joined


def _state(place: dict[str, int], front: Front) -> State:
    """The front on the host."""
    return State(place, {name: np.asarray(array) for name, array in front._asdict().items()})
