"""The videos on the line of the wavefront order."""

from collections.abc import Sequence
from typing import Any

from stableavatar_jax.diffusion.order import Arrival
from stableavatar_jax.sampling.program import Join, Source


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
