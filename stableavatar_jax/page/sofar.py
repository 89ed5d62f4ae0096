"""A video as far as it is made, with its sound, to be played while the rest is made."""

from pathlib import Path

from stableavatar_jax import media
from stableavatar_jax.media.segments import join
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.sampling.job import excerpt
from stableavatar_jax.sampling.paths import run_folder
from stableavatar_jax.sampling.progress import Decoded, Event


class SoFar:
    """A listener that joins the closed segments of a run whenever there are twice as many: a player that shows them
    begins anew each time.
    """

    def __init__(self, config: SampleConfig, frames: int):
        """`config` is that of the video, which has so many `frames`."""
        self._config, self._frames, self._joined = config, frames, 0
        self._made: list[Path] = []

    def __call__(self, event: Event) -> None:
        """Look for segments where frames were made."""
        if not isinstance(event, Decoded) or event.done >= self._frames:
            return
        output, inputs = self._config.keeping.output, self._config.inputs
        closed = len(list(run_folder(output).glob("segment-*.mp4")))
        if closed < max(1, 2 * self._joined):
            return
        assert inputs.audio is not None
        path = output.with_name(f"so-far-{closed}.mp4")
        with media.open_sound(inputs.audio, excerpt=excerpt(inputs)) as sound:
            join(run_folder(output), path, sound=sound, fps=self._config.frame.fps)
        self._made.append(path)
        self._joined = closed

    @property
    def path(self) -> Path | None:
        """The longest that there is."""
        return self._made[-1] if self._made else None

    def remove(self) -> None:
        """Remove all: the video stands."""
        for path in self._made:
            path.unlink(missing_ok=True)
        self._made.clear()
