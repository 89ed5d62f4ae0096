"""The wavefront order: all steps at once, each on a window of its own, so that memory does not grow with the video.

The windows on the line (`diffusion/order.py`) that are at some step make one diagonal. Each has its frames for itself,
so a diagonal is evaluated in micro-batches of R rows, in any division. Between diagonals every step hands its first
stride to the next step, the last step's is finished, and noise comes in before the first.
"""

import functools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from stableavatar_jax.diffusion import order, solvers
from stableavatar_jax.diffusion.order import Arrival, Line, Place
from stableavatar_jax.diffusion.solvers import Solver
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.sampling import memory
from stableavatar_jax.sampling.aboard import Aboard
from stableavatar_jax.sampling.front import KINDS, Front, Rows, make_advance, move
from stableavatar_jax.sampling.program import IN_FLIGHT, Block, Join, Order, Source, Velocity, not_finite, one_video
from stableavatar_jax.sampling.progress import Denoised, Rough, Standing, State, Tell, silent
from stableavatar_jax.shapes import Array, Float


def make_wavefront(
    velocity: Velocity, solver: Solver, config: WindowConfig, platform: str = "cpu", join: Join = one_video
) -> Order:
    """The wavefront order. Videos pass the steps one behind the other; `join` makes what the velocity takes of those
    that are on the line. How many windows a video has may be unknown until its sound ends.
    """
    advances = [make_advance(velocity, solver, config, platform, kind) for kind in range(len(velocity.kinds))]

    def denoise(sources: Sequence[Source], tell: Tell = silent, state: State | None = None) -> Iterator[Block]:
        return _Walk(sources, velocity, solver, config, advances, join, tell).walk(state)

    return denoise


class _Walk:
    """One walk over all diagonals."""

    def __init__(
        self, sources: Sequence[Source], velocity: Velocity, solver: Solver, config: WindowConfig,
        advances: Sequence[Any], join: Join, tell: Tell,
    ):  # fmt: skip
        self.sources, self.velocity, self.solver, self.config = sources, velocity, solver, config
        self.advances, self.tell = advances, tell
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
                self.front = self._front(state.arrays)
                made = begin["calls"]
                self.done += sum(place.live for call in calls[:made] for _, place in call)
            else:
                self._move(arrival)
                made = 0
            for number, call in enumerate(calls[made:], made + 1):
                self._call(call, moves)
                if len(self.sources) == 1:
                    # Before the wait, so that what is kept where a signal ends it has not been handed to a call.
                    at = {"moves": moves, "calls": number, "windows": windows}
                    self.tell(Standing(functools.partial(_state, at, self.front)))
                    for step in [step for step, place in call if place.number == 0]:
                        self.tell(Rough(step + 1, functools.partial(self._stride, step)))
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
            self.front = self._placed(move(self.front, noise, own))

    def _fresh(self, first: Float[Array, "KS H W C"], own: Any) -> Front:
        """The front with the first window on the line."""
        steps = self.solver.steps
        z = jnp.zeros((steps, *first.shape), jnp.float32).at[0].set(first)
        tail = jnp.zeros((steps, self.config.overlap, *first.shape[1:]))
        sound = jnp.zeros((self.line.length, *own.shape), own.dtype).at[-1].set(own)
        return self._placed(Front(z, solvers.init(self.solver, z), tail, sound, self._memory(first.shape[1:])))

    def _placed(self, front: Front) -> Front:
        """The front where its program leaves it; its memory lies where it belongs."""
        z, kept, tail, sound = self.velocity.placed((front.z, front.kept, front.tail, front.sound))
        return Front(z, kept, tail, sound, front.memory)

    def _memory(self, shape: tuple[int, ...]) -> Any:
        """Room for what the velocity remembers of the windows on the line."""
        return memory.begin(self.velocity, self.line.length, (self.config.window, *shape))

    def _front(self, arrays: dict[str, np.ndarray]) -> Front:
        """The front of a state, on the device."""
        own = {name: jnp.asarray(arrays[name]) for name in Front._fields if name in arrays}
        return self._placed(Front(**own, memory=memory.from_host(self._memory(own["z"].shape[2:]), arrays)))

    def _calls(self, rows: list[tuple[int, Place]]) -> list[list[tuple[int, Place]]]:
        """The rows of every call of the program: windows by the kind of their step, those without one at the end."""
        kind = self.velocity.at
        kinds = dict.fromkeys(kind(step) for step, place in rows if place.live)
        groups = [[row for row in rows if row[1].live and kind(row[0]) == k] for k in kinds] or [[]]
        groups[-1] += [row for row in rows if not row[1].live]
        size = self.config.batches * self.config.at_once
        return [group[i : i + size] for group in groups for i in range(0, len(group), size)]

    def _call(self, call: list[tuple[int, Place]], moves: int) -> None:
        shape, length = (self.config.batches, self.config.at_once), self.line.length
        own = [
            (s, p.number, p.live, self.aboard.place(p.video), (moves - self.line.reach * s) % length,
             self.sources[p.video].seed) for s, p in call
        ]  # fmt: skip
        nothing = [(self.solver.steps, 0, False, 0, length, 0)] * (math.prod(shape) - len(call))
        columns = zip(*own, *nothing, strict=True)
        rows = Rows(*(np.asarray(column, kind).reshape(shape) for column, kind in zip(columns, KINDS, strict=True)))
        advance = self.advances[self.velocity.at(call[0][0])]
        self.front, finite = advance(self.front, rows, self.aboard.shared())
        self.waiting.append((finite, call))

    def _stride(self, step: int) -> Float[Array, "S H W C"]:
        """The stride of the window at a step."""
        return self.front.z[step, : self.config.stride]

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


def _state(place: dict[str, int], front: Front) -> State:
    """The front on the host."""
    own = {name: np.asarray(array) for name, array in front._asdict().items() if name != "memory"}
    return State(place, own | memory.to_host(front.memory))
