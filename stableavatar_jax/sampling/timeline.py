"""The geometry of a video: how its sound, frames, latent frames and windows lie in time. Whole numbers only."""

from dataclasses import dataclass

from stableavatar_jax.diffusion.windows import WindowConfig, WindowPlan
from stableavatar_jax.frames import SAMPLE_RATE, frames_of, latent_frames


@dataclass(frozen=True)
class Timeline:
    """A video of `frames` frames at `fps`, cut into `windows`."""

    frames: int
    """Video frames."""
    fps: float
    """Frames a second."""
    windows: WindowPlan
    """The windows over its latent frames."""

    @property
    def seconds(self) -> float:
        """Length of the video."""
        return self.frames / self.fps


def timeline(samples: int, fps: float, windows: WindowConfig) -> Timeline:
    """The video that so many samples of 16 kHz sound make."""
    frames = frames_of(samples, SAMPLE_RATE, fps)
    return Timeline(frames, fps, windows.plan(latent_frames(frames)))
