"""The one way from a job to a video: a stream of frames, as they are finished."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stableavatar_jax.media import Sound, VideoWriter
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.job import Job
from stableavatar_jax.sampling.progress import Tell, silent
from stableavatar_jax.shapes import UInt8


def frames(job: Job, avatar: Avatar, *, tell: Tell = silent) -> Iterator[UInt8[np.ndarray, "n H W 3"]]:
    """The frames of a job's video, as they are finished, enlarged where the job says so.

    `tell` is called with every event (`progress.Event`). Raises Mistake for weights that are missing or do not fit,
    and for a velocity that is not finite.
    """
    latents = avatar.latents(job, tell) if job.latents is None else [job.latents]
    yield from avatar.decode(latents, job, tell)


def write(
    path: Path,
    job: Job,
    avatar: Avatar,
    *,
    sound: Path | Sound | None,
    crf: int = 18,
    tell: Tell = silent,
) -> None:
    """Make a job's video and write it as MP4 with a sound, whole or not at all. Raises Mistake."""
    frame = job.frame
    height, width = frame.height * frame.enlarge, frame.width * frame.enlarge
    with VideoWriter(path, fps=frame.fps, height=height, width=width, sound=sound, crf=crf) as video:
        for block in frames(job, avatar, tell=tell):
            video.write(block)
