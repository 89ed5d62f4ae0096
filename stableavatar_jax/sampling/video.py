"""The one way from a job to a video: a stream of frames, as they are finished."""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from stableavatar_jax.frames import FRAMES_PER_LATENT
from stableavatar_jax.media import Sound, VideoWriter
from stableavatar_jax.media.segments import Segments
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.job import Job
from stableavatar_jax.sampling.progress import Encoded, Event, State, Tell, both, silent
from stableavatar_jax.sampling.restart import Run, trimmed
from stableavatar_jax.shapes import Float, UInt8
from stableavatar_jax.threads import ahead, behind

WAITING = 8
"""Blocks of frames that wait to be written: x264 takes its time at the end of a segment."""
Latents = Iterator[Float[np.ndarray, "_ H W C"]]


def frames(job: Job, avatar: Avatar, *, tell: Tell = silent) -> Iterator[UInt8[np.ndarray, "n H W 3"]]:
    """The frames of a job's video, as they are finished, enlarged where the job says so.

    `tell` is called with every event (`progress.Event`). Raises Mistake for weights that are missing or do not fit,
    and for a velocity that is not finite.
    """
    with _denoised(avatar, job, tell) as latents:
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
    with (
        VideoWriter(path, fps=frame.fps, height=height, width=width, sound=sound, crf=crf) as video,
        behind(video.write, WAITING) as put,
    ):
        for block in frames(job, avatar, tell=tell):
            put(block)


def make(
    run: Run, job: Job, avatar: Avatar, *, crf: int = 18, preset: str = "medium", tell: Tell = silent
) -> None:
    """Make a job's video as segments in the folder of its run, after those that are there. Raises Mistake."""
    frame = job.frame
    height, width = frame.height * frame.enlarge, frame.width * frame.enlarge
    with Segments(
        run.folder, fps=frame.fps, height=height, width=width, frames=run.segment, crf=crf, preset=preset
    ) as video:

        def append(block: UInt8[np.ndarray, "n H W 3"]) -> None:
            video.write(block)
            run.closed = video.closed * run.segment

        done = video.closed * run.segment
        if job.timeline is None or done < job.timeline.frames:
            begin = run.needed(done)
            skip = done - FRAMES_PER_LATENT * begin
            with behind(append, WAITING) as put, _resumed(run, job, avatar, begin, tell) as latents:
                for block in avatar.decode(latents, job, tell, begin=begin):
                    put(block[skip:])
                    skip = max(0, skip - len(block))
        video.finish()


@contextlib.contextmanager
def _resumed(run: Run, job: Job, avatar: Avatar, begin: int, tell: Tell) -> Iterator[Latents]:
    """Finished latents from one on that the decoder begins with, those that the run kept and new ones."""
    if job.latents is not None:
        yield iter([job.latents[begin:]])
        return
    if job.conditions is None:
        if (conditions := run.conditions()) is None:
            [conditions] = avatar.conditions([job], tell)
            run.keep_conditions(conditions)
        job = dataclasses.replace(job, conditions=conditions)
    assert job.conditions is not None
    tell(Encoded(job.conditions))
    kept = list(run.recent)
    with _denoised(avatar, job, both(run, tell), run.state) as new:
        yield trimmed(itertools.chain(kept, new), begin - run.begin)


@contextlib.contextmanager
def _denoised(avatar: Avatar, job: Job, tell: Tell, state: State | None = None) -> Iterator[Latents]:
    """Finished latents. On a CPU the next are denoised in a thread of their own while pictures are decoded.

    An accelerator runs its programs one after another, so frames would only come later there, and several devices may
    not be given programs from two threads.
    """
    if job.latents is not None:
        yield iter([job.latents])
    elif jax.default_backend() != "cpu" or avatar.mesh is not None:
        yield avatar.latents(job, tell, state)
    else:
        stopped = threading.Event()

        def halt(_: Event) -> None:
            if stopped.is_set():
                raise KeyboardInterrupt

        with contextlib.closing(ahead(avatar.latents(job, both(halt, tell), state), stop=stopped.set)) as latents:
            yield latents
