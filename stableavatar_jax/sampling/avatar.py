"""An avatar: a model that is ready to work. The one place where sampling loads networks, and lets them go.

Compiled programs are kept as long as the process lives, by what they are compiled for; weights where asked.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from stableavatar_jax import media
from stableavatar_jax.checkpoint import Parts, check_params
from stableavatar_jax.config import read_config
from stableavatar_jax.diffusion.flow import frame_noise
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.encoding.encoders import Encoders, SoundEncoder
from stableavatar_jax.encoding.stream import window_sounds
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE, video_frames
from stableavatar_jax.models import lora
from stableavatar_jax.models.avatar import abstract_params, part
from stableavatar_jax.models.compute import Attention
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.sampling import calibration
from stableavatar_jax.sampling.config import Denoising, SampleConfig
from stableavatar_jax.sampling.decode import decode, pieces
from stableavatar_jax.sampling.denoiser import denoiser
from stableavatar_jax.sampling.job import Job
from stableavatar_jax.sampling.paths import MAKE_ONE
from stableavatar_jax.sampling.program import Block, Order, Source
from stableavatar_jax.sampling.progress import Encoding, Finished, State, Tell, silent
from stableavatar_jax.sampling.velocity import share, slots
from stableavatar_jax.shapes import Float, UInt8
from stableavatar_jax.sharding import rows_at_once, sampling_mesh, told
from stableavatar_jax.words import count

ENCODERS = ("umt5", "clip_vision", "vae", "wav2vec2")
"""In the order in which they run."""
Features = Callable[[int], Iterator[Float[np.ndarray, "A V"]]]
"""`features(first)`: of each window's sound, from one window on, as it comes."""


noise = jax.jit(frame_noise, static_argnums=(2, 3))


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
        mesh: Mesh | None = None,
        transformer: Path | None = None,
    ):
        """Weights come from a model directory, the transformer's from that of `transformer` where it is given; without
        one they are drawn from the seed.

        `loras` are trees and scales, merged into the transformer; it runs on the devices of a mesh, where one is given.
        """
        self.mesh = mesh
        self.denoiser: Callable[..., Order] = denoiser
        self.model, self.dtype, self.attention, self.loras = model, dtype, attention, tuple(loras)
        self.parts = Parts(model, directory, seed=seed, keep=keep, transformer=transformer)
        self.transformer: tuple[DiT, Any] | None = None
        """The transformer and its weights, where they are not the directory's."""

    @property
    def devices(self) -> int:
        """Devices that rows are dealt to."""
        return rows_at_once(self.mesh) if self.mesh else 1

    def told(self, denoising: Denoising) -> str:
        """The devices that are used, the mesh, and the rows on each; to be printed."""
        windows, branches = denoising.windows.at_once, len(denoising.guided().branches)
        kind, rows = jax.devices()[0].device_kind, math.ceil(windows * branches / self.devices)
        mesh = f", mesh {told(self.mesh)}" if self.mesh else ""
        used = self.mesh.size if self.mesh else 1
        return (
            f"devices   {used} x {kind}{mesh}; a call evaluates {count(windows, 'window')} x "
            f"{count(branches, 'branch')}, {count(rows, 'row')} on each"
        )

    def conditions(self, jobs: Sequence[Job], tell: Tell = silent, *, sound: bool = False) -> list[Conditions]:
        """What the encoders make of jobs, each encoder loaded once; a job that has conditions keeps them.

        Sound is encoded when it is needed, or here with `sound`.
        """
        new = [job for job in jobs if job.conditions is None]
        made = iter(self._encode(new, self._encoders(tell), sound) if new else [])
        return [job.conditions or next(made) for job in jobs]

    def _encoders(self, tell: Tell) -> Encoders:
        report = lambda name: tell(Encoding(name, ENCODERS.index(name), len(ENCODERS)))  # noqa: E731
        return Encoders(self.parts, self.dtype, self.picture_dtype, report)

    def _encode(self, jobs: Sequence[Job], encoders: Encoders, sound: bool) -> list[Conditions]:
        prompts = list(dict.fromkeys(text for job in jobs for text in (job.prompt, job.negative_prompt)))
        text, mask = encoders.text(prompts)
        pictures = [job.fitted() for job in jobs]
        images = encoders.images(pictures)
        references = encoders.references(pictures, jobs[0].denoising.windows.window)
        own = [[prompts.index(job.prompt), prompts.index(job.negative_prompt)] for job in jobs]
        encode = encoders.sound() if sound else None
        audio = [np.stack(list(encode(_sounds(job)))) if encode else None for job in jobs]
        made = zip(own, images, references, audio, strict=True)
        return [Conditions(text=text[o], text_mask=mask[o], image=i, reference=r, audio=a) for o, i, r, a in made]

    def denoise(self, jobs: Sequence[Job], tell: Tell = silent, state: State | None = None) -> Iterator[Block]:
        """Finished latents of jobs that are denoised alike, each job's in the order of its video and cut to its length.

        A Mistake in their place ends one job. With the `state` of a `Standing` event a single job is taken up again.
        """
        denoising = jobs[0].denoising.settled(*(job.windows for job in jobs), devices=self.devices)
        conditions = self.conditions(jobs, tell)
        encoded = all(each.audio is not None for each in conditions)
        encode = None if encoded else self._encoders(tell).sound()
        features = [_features(job, each.audio, encode) for job, each in zip(jobs, conditions, strict=True)]
        if denoising.order == "plain":  # it needs all of them at every step, and the encoder may go
            features = [_kept(list(each(0))) for each in features]
        self.check(jobs[0])
        dit, params = self._load_transformer()
        sources = [self._source(*each, dit, params) for each in zip(jobs, conditions, features, strict=True)]
        blocks = self.denoiser(dit, denoising, denoising.schedule(), self.mesh)(sources, tell, state)
        del conditions, encode, features, params, sources  # what is no longer needed goes while latents are decoded
        for video, start, z in blocks:
            time = jobs[video].timeline  # of a live sound it is known by the time that the last window is finished
            if isinstance(z, Mistake) or time is None or len(z := z[: max(0, time.windows.frames - start)]):
                yield Block(video, start, z)

    def _source(self, job: Job, conditions: Conditions, features: Features, dit: DiT, params: Any) -> Source:
        """A job as its windows come into the denoising loop."""
        window, shape = job.denoising.windows.window, (*job.frame.latent_size, dit.config.out_channels)
        samples = round(video_frames(window) * SAMPLE_RATE / job.frame.fps)
        audio = conditions.audio
        tokens = self.model.wav2vec2.output_length(samples) if audio is None else audio.shape[1]
        key, highest = jax.random.key(job.seed), (job.denoising.fewer.noise_levels or (1.0,))[0]
        return Source(
            noise=lambda start, count: highest * noise(key, start, count, shape),
            sounds=lambda first: (slots(dit, params, each, window) for each in features(first)),
            windows=job.windows,
            seed=job.seed,
            shared=share(dit, params, conditions, tokens),
        )

    def check(self, job: Job) -> None:
        """Raise Mistake where a job's cache was measured for other weights, or for other options."""
        if job.denoising.fewer.cache:
            calibration.check(job.denoising, job.frame, self.fingerprint)

    @functools.cached_property
    def fingerprint(self) -> str:
        """What the transformer's weights are known by."""
        folder = self.parts.transformer or self.parts.directory
        return calibration.fingerprint(folder, self.parts.seed, self.loras)

    def latents(
        self, job: Job, tell: Tell = silent, state: State | None = None
    ) -> Iterator[Float[np.ndarray, "n H W C"]]:
        """Finished latents in the order of the video, float32. Raises Mistake for a velocity that is not finite."""
        for _, start, z in self.denoise([job], tell, state):
            if isinstance(z, Mistake):
                raise z
            tell(Finished(start, z))
            yield z

    def decode(
        self, latents: Iterable[Float[np.ndarray, "_ H W C"]], job: Job, tell: Tell = silent, *, begin: int = 0
    ) -> Iterator[UInt8[np.ndarray, "_ h w 3"]]:
        """The frames of finished latents, enlarged where the job says so (see `decode`)."""
        vae, params = self.parts.load("vae", self.picture_dtype)
        length = lambda: job.timeline.frames if job.timeline else None  # noqa: E731
        place = pieces(self.mesh, *job.frame.latent_size)
        for frames in decode(vae, params, latents, length, tell, begin, place):
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
        dit, params = self.parts.load("dit", self.dtype, attention=self.attention, keep=False, mesh=self.mesh)
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
            folder = weights.transformer if weights.transformer and name == "dit" else weights.checkpoint
            check_params(folder / name, abstract_params(part(model, name)))
    for path, tree, _ in loras:
        try:
            jax.eval_shape(lora.merge, abstract_params(part(model, "dit")), tree)
        except ValueError as error:
            told = str(error).splitlines()[0]  # JAX adds lines of its own
            raise Mistake(f"{path}: {told}; it was trained on another model") from None
    abstract = jax.tree.leaves(abstract_params(part(model, "dit")))
    size = sum(x.size for x in abstract) * jax.numpy.dtype(weights.dtype).itemsize
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    mesh = sampling_mesh(config.mesh, size, model.dit.heads, limit)
    return Avatar(
        model, weights.checkpoint, dtype=weights.dtype, attention=weights.attention, seed=config.inputs.seed, keep=keep,
        loras=[(tree, scale) for _, tree, scale in loras], mesh=mesh, transformer=weights.transformer,
    )  # fmt: skip


def _sounds(job: Job) -> Iterator[Float[np.ndarray, "S"]]:
    return window_sounds(job.sound, job.denoising.windows, job.frame.fps)


def _features(job: Job, audio: Float[np.ndarray, "windows A V"] | None, encode: SoundEncoder | None) -> Features:
    if audio is not None:
        return lambda first: iter(audio[first:])
    assert encode is not None
    at_once = 1 if job.windows is None else None  # what comes live is not waited for
    return lambda first: encode(itertools.islice(_sounds(job), first, None), at_once=at_once)


def _kept(features: list[Float[np.ndarray, "A V"]]) -> Features:
    return lambda first: iter(features[first:])
