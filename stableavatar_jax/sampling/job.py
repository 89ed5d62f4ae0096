"""A job: everything that one video is made from, in memory."""

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.encoding.conditions import Conditions, load_conditions
from stableavatar_jax.errors import Mistake
from stableavatar_jax.sampling.config import NEGATIVE_PROMPT, Denoising, Frame, SampleConfig
from stableavatar_jax.sampling.latents import read_latents
from stableavatar_jax.sampling.paths import check_given
from stableavatar_jax.sampling.timeline import Timeline, timeline
from stableavatar_jax.shapes import Float


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """Picture, sound, prompt, and how to make a video of them."""

    samples: Float[np.ndarray, "S"]
    """Sound at 16 kHz."""
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

    @cached_property
    def timeline(self) -> Timeline:
        """The geometry of the video."""
        return timeline(len(self.samples), self.frame.fps, self.denoising.windows)

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
    job = Job(
        samples=media.read_sound(inputs.audio),
        picture=media.read_picture(inputs.image) if inputs.image else None,
        prompt=inputs.prompt, negative_prompt=inputs.negative_prompt, seed=inputs.seed,
        frame=frame, denoising=config.denoising,
    )  # fmt: skip
    told: dict[str, Any] = {}
    if inputs.conditions:
        told["conditions"] = load_conditions(inputs.conditions, about(job))
    if inputs.decode_only:
        shape = (job.timeline.windows.frames, *frame.latent_size, config.model.vae.z_dim)
        told["latents"] = read_latents(inputs.decode_only, shape)
    return dataclasses.replace(job, **told) if told else job


def about(job: Job) -> dict[str, Any]:
    """What conditions are made for: the options that may not change between saving and using them."""
    windows = job.timeline.windows
    return {
        "height": job.frame.height, "width": job.frame.width, "fps": job.frame.fps, "window": windows.window,
        "overlap": windows.overlap, "audio": f"of {job.timeline.frames} frames",
    }  # fmt: skip
