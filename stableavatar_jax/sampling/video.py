"""The one way from a job to a video: a stream of frames, as they are finished."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stableavatar_jax.frames import FRAMES_PER_LATENT
from stableavatar_jax.media import Sound, VideoWriter
from stableavatar_jax.media.segments import Segments
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.job import Job
from stableavatar_jax.sampling.progress import Encoded, Tell, both, silent
from stableavatar_jax.sampling.restart import Run, trimmed
from stableavatar_jax.shapes import Float, UInt8


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


def make(run: Run, job: Job, avatar: Avatar, *, crf: int = 18, tell: Tell = silent) -> None:
    """Make a job's video as segments in the folder of its run, after those that are there. Raises Mistake."""
    frame = job.frame
    height, width = frame.height * frame.enlarge, frame.width * frame.enlarge
    with Segments(run.folder, fps=frame.fps, height=height, width=width, frames=run.segment, crf=crf) as video:
        done = video.closed * run.segment
        if job.timeline is None or done < job.timeline.frames:
            begin, latents = _latents(run, job, avatar, done, tell)
            skip = done - FRAMES_PER_LATENT * begin
            for block in avatar.decode(latents, job, tell, begin=begin):
                video.write(block[skip:])
                skip = max(0, skip - len(block))
                run.closed = video.closed * run.segment
        video.finish()


def _latents(
    run: Run, job: Job, avatar: Avatar, frame: int, tell: Tell
) -> tuple[int, Iterator[Float[np.ndarray, "_ H W C"]]]:
    """Finished latents from the one on that the decoder has to begin with for a frame, and its number."""
    begin = run.needed(frame)
    if job.latents is not None:
        return begin, iter([job.latents[begin:]])
    if job.conditions is None:
        if (conditions := run.conditions()) is None:
            [conditions] = avatar.conditions([job], tell)
            run.keep_conditions(conditions)
        job = dataclasses.replace(job, conditions=conditions)
    assert job.conditions is not None
    tell(Encoded(job.conditions))
    kept = list(run.recent)
    new = avatar.latents(job, both(run, tell), run.state)
    return begin, trimmed(itertools.chain(kept, new), begin - run.begin)
