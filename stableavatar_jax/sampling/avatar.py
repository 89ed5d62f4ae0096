"""An avatar: a model that is ready to work. The one place where sampling loads networks, and lets them go.

Compiled programs are kept as long as the process lives, by what they are compiled for; weights where asked.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stableavatar_jax import media
from stableavatar_jax.checkpoint import Parts, check_params
from stableavatar_jax.config import read_config
from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.flow import frame_noise
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.encoding.encoders import Encoders
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models import lora
from stableavatar_jax.models.avatar import abstract_params, part
from stableavatar_jax.models.compute import Attention
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.sampling.config import Denoising, SampleConfig
from stableavatar_jax.sampling.decode import decode
from stableavatar_jax.sampling.job import Job
from stableavatar_jax.sampling.paths import MAKE_ONE
from stableavatar_jax.sampling.plain import make_plain
from stableavatar_jax.sampling.progress import Encoding, Tell, silent
from stableavatar_jax.sampling.velocity import make_velocity, prepare
from stableavatar_jax.shapes import Float, UInt8

ENCODERS = 4


class Avatar:
    """The networks of a model, loaded when they are needed; `keep` holds them for the next video."""

    def __init__(
        self,
        model: AvatarConfig,
        directory: Path | None = None,
        *,
        dtype: str = "bfloat16",
        attention: Attention = "auto",
        loras: Sequence[tuple[Any, float]] = (),
        seed: int = 0,
        keep: bool = False,
    ):
        """Weights come from a model directory; without one they are drawn from the seed.

        `loras` are trees and scales, merged into the transformer.
        """
        self.model, self.dtype, self.attention, self.loras = model, dtype, attention, tuple(loras)
        self.parts = Parts(model, directory, seed=seed, keep=keep)
        self.transformer: tuple[DiT, Any] | None = None
        """The transformer and its weights, where they are not the directory's."""

    def conditions(self, job: Job, tell: Tell = silent) -> Conditions:
        """What the encoders make of a job, one after another; a job that has conditions keeps them."""
        if job.conditions is not None:
            return job.conditions
        done = iter(range(ENCODERS))
        report = lambda name: tell(Encoding(name, next(done), ENCODERS))  # noqa: E731
        encoders = Encoders(self.parts, self.dtype, self.picture_dtype, report)
        time, prompts = job.timeline, [job.prompt, job.negative_prompt]
        return encoders.conditions(job.fitted(), job.samples, prompts, time.windows, time.fps)

    def latents(self, job: Job, tell: Tell = silent) -> Iterator[Float[np.ndarray, "n H W C"]]:
        """Finished latents in the order of the video, float32. Raises Mistake for a velocity that is not finite."""
        conditions = self.conditions(job, tell)
        dit, params = self._load_transformer()
        windows, shape = job.timeline.windows, (*job.frame.latent_size, dit.config.out_channels)
        z = frame_noise(jax.random.key(job.seed), 0, windows.padded, shape)
        finished = denoiser(dit, job.denoising)(z, *prepare(dit, params, conditions), windows.frames, tell)
        del conditions, params, z  # what the loop no longer needs may go while the latents are decoded
        yield from finished

    def decode(
        self, latents: Iterable[Float[np.ndarray, "_ H W C"]], job: Job, tell: Tell = silent
    ) -> Iterator[UInt8[np.ndarray, "_ h w 3"]]:
        """The frames of finished latents, enlarged where the job says so."""
        vae, params = self.parts.load("vae", self.picture_dtype)
        for frames in decode(vae, params, latents, job.timeline.frames, tell):
            yield media.enlarge(frames, job.frame.enlarge)

    @property
    def picture_dtype(self) -> str:
        """What the autoencoder and the image encoder compute in.

        In bfloat16 frames lie 49 dB from float32's, below what H.264 keeps; a CPU has no bfloat16 arithmetic.
        """
        return "float32" if jax.default_backend() == "cpu" else self.dtype

    def _load_transformer(self) -> tuple[DiT, Any]:
        """The transformer and its weights, LoRAs merged in; to be called when no encoder is left."""
        if self.transformer is not None:
            return self.transformer
        dit, params = self.parts.load("dit", self.dtype, attention=self.attention, keep=False)
        for tree, scale in self.loras:
            params = jax.jit(functools.partial(lora.merge, scale=scale), donate_argnums=0)(params, tree)
        if self.parts.keep:
            self.transformer = dit, params
        return dit, params


def open_avatar(config: SampleConfig, loras: Sequence[tuple[Path, Any, float]] = (), *, keep: bool = False) -> Avatar:
    """The avatar of a command line. From metadata alone, everything is looked at that would stop a job later.

    Raises Mistake for weights that are missing, or that do not fit the model.
    """
    weights, model = config.weights, config.model
    if weights.checkpoint is None and not weights.random_weights:
        raise Mistake(f"--checkpoint is missing: {MAKE_ONE}")
    if weights.checkpoint is not None:
        model = read_config(weights.checkpoint, AvatarConfig)
        for name in config.parts:
            check_params(weights.checkpoint / name, abstract_params(part(model, name)))
    for path, tree, _ in loras:
        try:
            jax.eval_shape(lora.merge, abstract_params(part(model, "dit")), tree)
        except ValueError as error:
            told = str(error).splitlines()[0]  # JAX adds lines of its own
            raise Mistake(f"{path}: {told}; it was trained on another model") from None
    return Avatar(
        model, weights.checkpoint, dtype=weights.dtype, attention=weights.attention, seed=config.inputs.seed, keep=keep,
        loras=[(tree, scale) for _, tree, scale in loras],
    )  # fmt: skip


@functools.lru_cache(maxsize=16)
def denoiser(dit: DiT, denoising: Denoising) -> Any:
    """The denoising loop for a transformer and a way of denoising (`plain.make_plain`), compiled when first called."""
    solver = solvers.solver(denoising.solver, denoising.steps, denoising.shift)
    return make_plain(make_velocity(dit, denoising.guided()), solver, denoising.windows, dit.compute.platform)
