"""How far frames are behind a sound that comes live."""

import bisect
import time
from collections.abc import Callable

from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.media import LiveSound
from stableavatar_jax.sampling.progress import Decoded, Event


class Lag:
    """A listener that measures the time from when the sound of a frame was read until the frame was made."""

    def __init__(self, sound: LiveSound, fps: float, clock: Callable[[], float] = time.monotonic):
        self._sound, self._fps, self._clock = sound, fps, clock
        self._samples, self._times = [0], [clock()]
        self.longest = self.last = 0.0
        """Seconds, of all frames and of the last ones."""

    def __call__(self, event: Event) -> None:
        """Look at the sound, and at the clock where frames were made."""
        now, samples = self._clock(), self._sound.read
        if samples > self._samples[-1]:
            self._samples.append(samples)
            self._times.append(now)
        if isinstance(event, Decoded):
            heard = min(round(event.done * SAMPLE_RATE / self._fps), self._samples[-1])
            read = bisect.bisect_left(self._samples, heard)
            self.last = now - self._times[read]
            self.longest = max(self.longest, self.last)
            del self._samples[:read], self._times[:read]  # later frames have later sound; a live run may last for days

    def __str__(self) -> str:
        return f"frames came {self.longest:.1f} s after their sound at most, the last of them {self.last:.1f} s"
