"""From the command line's job to its files, in a run that can be taken up again."""

import jax
import numpy as np

from stableavatar_jax.media.segments import join
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.sampling.decode import at_once
from stableavatar_jax.sampling.denoiser import solver_of
from stableavatar_jax.sampling.job import Job
from stableavatar_jax.sampling.latents import LatentsFile
from stableavatar_jax.sampling.preview import Preview
from stableavatar_jax.sampling.progress import Tell, both, silent
from stableavatar_jax.sampling.restart import identity, resumable
from stableavatar_jax.sampling.video import make


def deliver(config: SampleConfig, job: Job, avatar: Avatar, tell: Tell = silent) -> None:
    """Make the video of a command line, and its latents where they are asked for. Raises Mistake."""
    keeping, vae, frame = config.keeping, avatar.model.vae, config.frame
    platform = jax.devices()[0].platform
    options, stride = identity(config), config.denoising.windows.stride
    with resumable(
        keeping.output, options, stride=stride, reach=vae.decoder_reach(), at_once=at_once(platform)
    ) as run:
        listeners: list[Tell] = [tell]
        latents = None
        if keeping.latents and job.latents is None:
            shape = (job.known.windows.frames, *frame.latent_size, vae.z_dim)
            latents = LatentsFile(run.folder / "latents.npy", shape, begun=run.is_worth_keeping)
            listeners.append(latents)
        if keeping.preview:
            levels = np.asarray(solver_of(config.denoising).s)
            listeners.append(Preview(keeping.preview, job.fitted(), levels))
        make(run, job, avatar, crf=keeping.crf, preset=keeping.x264_preset, tell=both(*listeners))
        with job.sound.open() as sound:
            join(run.folder, keeping.output, sound=sound, fps=frame.fps, inputs=[config.inputs.audio])
        if latents and keeping.latents:
            latents.give(keeping.latents)
