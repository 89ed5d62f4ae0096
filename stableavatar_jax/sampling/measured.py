"""A velocity that measures, for a step cache, how much what the blocks add changes from step to step."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from stableavatar_jax import media
from stableavatar_jax.diffusion.guidance import Guidance, combine
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.calibration import Calibration, about, name
from stableavatar_jax.sampling.config import Denoising
from stableavatar_jax.sampling.denoiser import solver_of
from stableavatar_jax.sampling.guided import Network
from stableavatar_jax.sampling.job import Job
from stableavatar_jax.sampling.memory import LEAF
from stableavatar_jax.sampling.plain import make_plain
from stableavatar_jax.sampling.program import Order, Velocity
from stableavatar_jax.sampling.progress import Event, Standing, Tell, silent
from stableavatar_jax.sampling.velocity import join, network, on
from stableavatar_jax.shapes import Array, Float


class Measured(NamedTuple):
    """What is known of a window."""

    ratios: Float[Array, "R S K"]
    """Of the steps so far, the newest last; float32."""
    added: Float[Array, "R K ..."]
    """What the blocks added to the tokens of each branch at the newest."""


def measured(network: Network, guidance: Guidance, steps: int) -> Velocity:
    """The guided velocity, which remembers of every step and branch the mean over tokens of the size of what the blocks
    add, over its size at the step before; 1 at the first step.
    """

    def init(z: Float[Array, "R F H W C"]) -> Measured:
        branches = len(guidance.branches)
        room = network.place(network.room(z, branches))
        return Measured(jnp.zeros((len(z), steps, branches), jnp.float32), room)

    def apply(shared: Any, own: Any, z: Array, t: Array, memory: Any) -> tuple[Array, Any]:
        embedded = network.embed(shared, own, z, t)
        tokens = network.blocks(shared, own, embedded, guidance.branches)
        added = tokens - embedded.x[:, None]
        size, before = (jnp.linalg.norm(x.astype(jnp.float32), axis=-1) for x in (added, memory.added))
        ratio = jnp.where(before > 0, size / before, 1).mean(range(2, size.ndim))
        ratios = jnp.concatenate([memory.ratios[:, 1:], ratio[:, None]], 1)
        v = combine(network.read_out(shared, embedded, tokens), guidance)
        return v, Measured(ratios, network.place(added))

    return Velocity((apply,), init=init)


def measure(avatar: Avatar, job: Job, tell: Tell = silent) -> Float[np.ndarray, "windows S K"]:
    """The ratios of all windows of a job in plain order, for an avatar whose denoiser takes the `measured` velocity."""
    config, plan = job.denoising.windows, job.known.windows
    calls = job.denoising.steps * math.ceil(plan.padded / (config.stretch[1] * config.stride))
    states: list[np.ndarray] = []

    def listen(event: Event) -> None:
        nonlocal calls
        tell(event)
        if isinstance(event, Standing):
            calls -= 1
            if calls == 0:  # after the last call all are known
                states.append(event.state().arrays[f"{LEAF}0"])

    for block in avatar.denoise([job], listen):
        if isinstance(block.z, Exception):
            raise block.z
    [ratios] = states
    return ratios.reshape(-1, *ratios.shape[2:])[: plan.count]


def calibrated(
    avatar: Avatar, job: Job, recordings: Sequence[Path], seconds: float, tell: Tell = silent
) -> Calibration:
    """The calibration of an avatar on the beginnings of recordings, each with the job's picture and all branches of its
    guidance at every step.
    """
    every = dataclasses.replace(
        job.denoising.fewer, cache=None, guidance_from=0.0, guidance_until=1.0, guidance_reuse=False
    )
    way = dataclasses.replace(job.denoising, order="plain", fewer=every)
    guidance = way.guided()

    def denoiser(dit: DiT, settled: Denoising, *_: Any) -> Order:
        velocity = on(avatar.mesh, measured(network(dit, avatar.mesh), guidance, way.steps))
        return make_plain(velocity, solver_of(settled), settled.windows, dit.compute.platform, join)

    usual, avatar.denoiser = avatar.denoiser, denoiser
    found = []
    try:
        for path in recordings:
            sound = media.Samples(media.read_sound(path)[: round(seconds * SAMPLE_RATE)])
            found.append(measure(avatar, dataclasses.replace(job, sound=sound, denoising=way), tell))
    finally:
        avatar.denoiser = usual
    ratios = np.concatenate(found).mean(0, dtype=np.float64)
    return Calibration(
        valid_for=about(way, job.frame) | {"weights": avatar.fingerprint},
        ratios={name(branch): ratios[:, k].tolist() for k, branch in enumerate(guidance.branches)},
    )
