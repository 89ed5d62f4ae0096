"""An avatar without networks: what is left of making a video is the way of the data through it."""

import wave
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.flow import frame_noise
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.encoding.stream import window_sounds
from stableavatar_jax.frames import FRAMES_PER_LATENT, IMAGE_TOKENS, PIXELS_PER_LATENT, SAMPLE_RATE, video_frames
from stableavatar_jax.media import SoundFile
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.sampling.deliver import deliver
from stableavatar_jax.sampling.job import Job
from stableavatar_jax.sampling.program import Block, Source, without_memory
from stableavatar_jax.sampling.progress import State, Tell, silent
from stableavatar_jax.sampling.wavefront import make_wavefront
from stableavatar_jax.shapes import Array, Float, UInt8


class Stub(Avatar):
    """Its arrays have the sizes of the model's. Its latents become even, so that H.264 has little to do."""

    def conditions(self, jobs: Sequence[Job], tell: Tell = silent, *, sound: bool = False) -> list[Conditions]:
        """Zeros."""
        size, dit, clip = jobs[0].frame.latent_size, self.model.dit, self.model.clip_vision
        window = jobs[0].denoising.windows.window
        made = Conditions(
            text=np.zeros((2, dit.text_len, dit.text_dim), np.float32),
            text_mask=np.ones((2, dit.text_len), bool),
            image=np.zeros((IMAGE_TOKENS, clip.dim), np.float32),
            reference=np.zeros((window, *size, dit.out_channels + 4), np.float32),
        )
        return [made] * len(jobs)

    def denoise(self, jobs: Sequence[Job], tell: Tell = silent, state: State | None = None) -> Iterator[Block]:
        """The wavefront order with a velocity that depends on all frames of a window, on its step and its sound."""
        [job] = jobs
        way, shape = job.denoising.settled(job.windows), (*job.frame.latent_size, self.model.dit.out_channels)
        source = Source(
            noise=lambda start, count: frame_noise(jax.random.key(job.seed), start, count, shape),
            sounds=lambda first: self._features(job, first),
            windows=job.windows,
        )
        order = make_wavefront(without_memory(_velocity), solvers.solver(way.solver, way.steps, way.shift), way.windows)
        for video, start, z in order([source], tell, state):
            assert isinstance(z, np.ndarray)
            if len(z := z[: max(0, job.known.windows.frames - start)]):
                yield Block(video, start, z)

    def tokens(self, job: Job) -> int:
        """Sound features of a window."""
        samples = round(video_frames(job.denoising.windows.window) * SAMPLE_RATE / job.frame.fps)
        return self.model.wav2vec2.output_length(samples)

    def _features(self, job: Job, first: int) -> Iterator[Float[Array, "A V"]]:
        shape = (self.tokens(job), self.model.wav2vec2.dim)
        for window, sound in enumerate(window_sounds(job.sound, job.denoising.windows, job.frame.fps)):
            if window >= first:
                yield jnp.asarray(np.resize(sound, shape))

    def decode(
        self, latents: Iterable[Float[np.ndarray, "_ H W C"]], job: Job, tell: Tell = silent, *, begin: int = 0
    ) -> Iterator[UInt8[np.ndarray, "_ h w 3"]]:
        """Frames of the real size: each latent place is a square of one colour."""
        number, left = begin, job.known.frames - FRAMES_PER_LATENT * begin
        for z in latents:
            for place in z:
                small = np.clip(127 + 20 * place[..., :3], 0, 255).astype(np.uint8)
                large = small.repeat(PIXELS_PER_LATENT, 0).repeat(PIXELS_PER_LATENT, 1)
                block = np.repeat(large[None], FRAMES_PER_LATENT if number > begin else 1, 0)[: max(left, 0)]
                number, left = number + 1, left - len(block)
                yield block


def _velocity(shared: Any, own: Any, z: Float[Array, "R F H W C"], t: Float[Array, "R"]) -> Float[Array, "R F H W C"]:
    even = z.mean((1, 2, 3), keepdims=True) + 0.01 * own.sound.mean((1, 2)).reshape(-1, 1, 1, 1, 1)
    return (z - even) * (1 + t.reshape(-1, 1, 1, 1, 1) / 10_000)


def stub_video(config: SampleConfig, tell: Tell = silent) -> Job:
    """Make the video of a config with the stub; its job."""
    assert config.inputs.audio
    job = Job(
        sound=SoundFile(config.inputs.audio), picture=Image.new("RGB", (64, 64)), seed=config.inputs.seed,
        frame=config.frame, denoising=config.denoising,
    )  # fmt: skip
    deliver(config, job, Stub(config.model), tell)
    return job


def recording(path: Path, seconds: int) -> Path:
    """Noise of so many seconds as a WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        for second in range(seconds):
            noise = np.random.default_rng(second).normal(size=SAMPLE_RATE) * 2000
            file.writeframes(noise.astype("<i2").tobytes())
    return path
