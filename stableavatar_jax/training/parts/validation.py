"""Validation videos: the weights as they stand, on one picture and one recording, every so many steps."""

from typing import Any

import jax

from stableavatar_jax import media
from stableavatar_jax.checkpoint import load_part
from stableavatar_jax.encoding.encoders import Encoders
from stableavatar_jax.frames import SAMPLE_RATE, latent_frames
from stableavatar_jax.models.avatar import part, settled
from stableavatar_jax.sampling.config import SampleConfig, check
from stableavatar_jax.sampling.decode import decode
from stableavatar_jax.sampling.sampler import denoise
from stableavatar_jax.training.loop import Validate
from stableavatar_jax.training.run import Run
from stableavatar_jax.training.state import TrainState, join, merged


def make_validate(run: Run) -> Validate:
    """What the loop calls to see what the weights have learned: writes `RUN/validation/STEP.mp4`.

    Picture and recording are encoded here, once, and the encoders freed. Raises ValueError for files or sizes that
    `sample.py` would refuse too.
    """
    config, asked = run.config, run.config.validation
    job = check(
        SampleConfig(
            model=config.model, checkpoint=config.checkpoint, random_weights=config.checkpoint is None,
            image=asked.image, audio=asked.audio, prompt=asked.prompt, height=asked.height, width=asked.width,
            steps=asked.steps, seed=config.seed, dtype=config.dtype,
        )  # fmt: skip
    )
    assert job.image is not None and job.audio is not None  # seen to by check
    samples = media.read_sound(job.audio)
    frames = media.frames_of(len(samples), SAMPLE_RATE, job.fps)
    plan = job.windows.plan(latent_frames(frames))
    picture = media.fit_picture(media.read_picture(job.image), job.height, job.width)
    encoders = Encoders(job.model, job.checkpoint, job.dtype, job.seed)
    conditions = encoders.conditions(picture, samples, [job.prompt, job.negative_prompt], plan, job.fps)
    dit: Any = part(job.model, "dit", settled(job.model, "dit", jax.devices()[0], job.dtype))
    vae, vae_params = load_part(job.checkpoint, job.model, "vae", seed=job.seed)

    def validate(step: int, state: TrainState) -> None:
        params = merged(join(state.ema or state.params, state.frozen))
        with run.on_mesh():
            z = denoise(job, dit, params, conditions, plan)
        if jax.process_index() == 0:
            path = config.run_dir / "validation" / f"{step}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            with media.VideoWriter(path, fps=job.fps, height=job.height, width=job.width, sound=job.audio) as video:
                for pixels in decode(vae, vae_params, z, frames):
                    video.write(pixels)

    return validate
