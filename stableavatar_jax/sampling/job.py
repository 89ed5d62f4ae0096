"""A job: everything that one video is made from, in memory."""

import dataclasses
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.encoding.conditions import Conditions, load_conditions
from stableavatar_jax.errors import Mistake
from stableavatar_jax.media import Recording
from stableavatar_jax.sampling.config import Denoising, Frame, SampleConfig
from stableavatar_jax.sampling.inputs import NEGATIVE_PROMPT, Inputs
from stableavatar_jax.sampling.latents import read_latents
from stableavatar_jax.sampling.paths import check_given, is_live, run_folder
from stableavatar_jax.sampling.timeline import Timeline, timeline
from stableavatar_jax.shapes import Float


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """Picture, sound, prompt, and how to make a video of them."""

    sound: Recording
    """What is spoken."""
    picture: Image.Image | None = None
    """Not needed where conditions or latents are given."""
    prompt: str = ""
    negative_prompt: str = NEGATIVE_PROMPT
    seed: int = 0
    frame: Frame = field(default_factory=Frame)
    denoising: Denoising = field(default_factory=Denoising)
    conditions: Conditions | None = None
    """What the encoders would make of picture, sound and prompt."""
    latents: Float[np.ndarray, "N H W C"] | None = None
    """Finished latents, which are only decoded."""

    @property
    def timeline(self) -> Timeline | None:
        """The geometry of the video; None while a live sound goes on."""
        samples = self.sound.samples
        return None if samples is None else timeline(samples, self.frame.fps, self.denoising.windows)

    @property
    def windows(self) -> int | None:
        """Number of windows; None while a live sound goes on."""
        return self.timeline.windows.count if self.timeline else None

    @property
    def known(self) -> Timeline:
        """The geometry of a video whose sound has ended."""
        if (time := self.timeline) is None:
            raise Mistake("the length of the video is unknown while its sound goes on; give a recording")
        return time

    def fitted(self) -> Float[np.ndarray, "H W 3"]:
        """The picture at the size of the video, float32 in -1..1."""
        if self.picture is None:
            raise Mistake("a picture is needed: give --image")
        frame = self.frame
        return media.fit_picture(self.picture, frame.height, frame.width, frame.fit, frame.crop)


def open_job(config: SampleConfig) -> Job:
    """The job of a command line, its files read. Raises Mistake for what is missing, damaged or of another video."""
    inputs, frame = config.inputs, config.frame
    check_given(config)
    assert inputs.audio is not None
    live = is_live(inputs.audio)
    kept = run_folder(config.keeping.output) / "sound.pcm"
    recorded = (inputs.audio, None, excerpt(inputs))
    job = Job(
        sound=media.LiveSound(sys.stdin.buffer, kept) if live else media.SoundFile(*recorded),
        picture=media.read_picture(inputs.image) if inputs.image else None,
        prompt=inputs.prompt, negative_prompt=inputs.negative_prompt, seed=inputs.seed,
        frame=frame, denoising=config.denoising,
    )  # fmt: skip
    told: dict[str, Any] = {}
    if inputs.conditions:
        told["conditions"] = load_conditions(inputs.conditions, about(job))
        if told["conditions"].audio is None:
            raise Mistake(f"{inputs.conditions}: has no features of the sound; make it with --save-conditions")
    if inputs.decode_only:
        shape = (job.known.windows.frames, *frame.latent_size, config.model.vae.z_dim)
        told["latents"] = read_latents(inputs.decode_only, shape)
    return dataclasses.replace(job, **told) if told else job


def excerpt(inputs: Inputs) -> media.Excerpt:
    """What is taken of the recording."""
    return media.Excerpt(track=inputs.audio_track, start=inputs.start, duration=inputs.duration)


def about(job: Job) -> dict[str, Any]:
    """What conditions are made for: the options that may not change between saving and using them."""
    windows = job.denoising.windows
    return {
        "height": job.frame.height, "width": job.frame.width, "fps": job.frame.fps, "window": windows.window,
        "overlap": windows.overlap, "audio": f"of {job.known.frames} frames",
    }  # fmt: skip
