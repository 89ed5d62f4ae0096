"""What fewer evaluations save, and what they keep in memory for it."""

import dataclasses
import math
import os

import jax
import jax.numpy as jnp

from stableavatar_jax.diffusion.reuse import Step
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.flops import dit_flops
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.words import count


def operations(config: SampleConfig, slot: int) -> float:
    """Operations of the transformer for one window, over all steps; `slot` are the audio tokens of a latent frame."""
    denoising, c = config.denoising, config.model.dit
    size = (denoising.windows.window, *config.frame.latent_size)
    branches = denoising.guided().branches
    audios = len({b.audio for b in branches} - {"dropped"})
    ends = dataclasses.replace(c, layers=0)
    steps = denoising.schedule() or (Step(),) * denoising.steps
    each = {
        step: dit_flops(
            ends if step.skipped else c, size, slot=slot, branches=len(branches) if step.guided else 1,
            audios=0 if step.skipped else audios if step.guided else 1,
        ) for step in set(steps)
    }  # fmt: skip
    return sum(each[step] for step in steps)


def remembered(config: SampleConfig, windows: int, devices: int = 1) -> float:
    """Bytes on a device that the velocity remembers of so many windows."""
    denoising, c = config.denoising, config.model.dit
    schedule = denoising.schedule()
    latents = denoising.windows.window * math.prod(config.frame.latent_size)
    each = 0
    if any(step.skipped for step in schedule):
        tokens = latents // math.prod(c.patch) * c.dim * jnp.dtype(config.weights.dtype).itemsize
        each += tokens * len(denoising.guided().branches) // devices
    if denoising.fewer.guidance_reuse and any(not step.guided for step in schedule):
        each += 4 * latents * c.out_channels
    return float(windows * each)


def told(config: SampleConfig) -> str:
    """What the steps evaluate, in words."""
    denoising = config.denoising
    branches, schedule = len(denoising.guided().branches), denoising.schedule() or (Step(),) * denoising.steps
    if all(step == Step() for step in schedule):
        return f"{count(denoising.steps, 'step')} x {count(branches, 'branch')}"
    guided = sum(step.guided and not step.skipped for step in schedule)
    alone = sum(not step.guided and not step.skipped for step in schedule)
    left = len(schedule) - guided - alone
    parts = [f"{count(guided, 'step')} x {count(branches, 'branch')}"]
    parts += [f"{count(alone, 'step')} x 1 branch"] if alone else []
    saved = 1 - denoising.branches_run() / (denoising.steps * branches)
    out = f"; blocks left out at {count(left, 'step')}" if left else ""
    return f"({' + '.join(parts)}{out}), {saved:.0%} fewer"


def check_room(config: SampleConfig, needed: float, held: float) -> None:
    """Raise Mistake where a cache does not fit beside all else that is `needed`; `held` is what it takes, in bytes."""
    if not held:
        return
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit") or _host()
    if needed > 0.95 * limit:
        what = "--cache" if config.denoising.fewer.cache else "--guidance-reuse"
        raise Mistake(
            f"{what} keeps {held / 2**30:.1f} GiB of the windows, about {needed / 2**30:.1f} GiB are needed with all "
            f"else, and there are {limit / 2**30:.1f}; take a shorter video, --order wavefront, or leave {what} out"
        )


def _host() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
