"""What a run will cost, told before it starts: windows, evaluations, operations, memory, time."""

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from stableavatar_jax.diffusion.windows import WindowPlan
from stableavatar_jax.frames import SAMPLE_RATE, latent_frames
from stableavatar_jax.media import frames_of
from stableavatar_jax.models.attention import KEY_CHUNK, QUERY_CHUNK
from stableavatar_jax.models.avatar import PARTS, abstract_params, part
from stableavatar_jax.models.flops import dit_flops
from stableavatar_jax.sampling.config import SampleConfig

SHARE_OF_PEAK = 0.6
"""Part of the machine's matrix-product speed that the transformer is taken to reach."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cost of one video."""

    frames: int
    """Video frames."""
    windows: WindowPlan
    """How the latents are cut."""
    evaluations: int
    """Passes of the transformer: windows x steps x branches."""
    operations: float
    """Floating-point operations of all of them (`models/flops.py`)."""
    memory: dict[str, float]
    """Bytes each stage needs; the largest counts, as stages follow one another."""

    @property
    def peak_memory(self) -> float:
        """Bytes the most demanding stage needs."""
        return max(self.memory.values())


def plan(config: SampleConfig, samples: int) -> Plan:
    """The cost of a video to so many samples of 16 kHz sound. Nothing is loaded or allocated."""
    frames = frames_of(samples, SAMPLE_RATE, config.fps)
    windows = config.windows.plan(latent_frames(frames))
    guidance = config.guided()
    count = len(guidance.branches)
    audios = len({b.audio for b in guidance.branches} - {"dropped"})
    heard = config.model.wav2vec2.output_length(round(config.window_frames * SAMPLE_RATE / config.fps))
    slot = 2 * int(2 * heard / config.window_frames) + 1 + 2 * config.model.dit.adapter.context
    size = (windows.window, *config.latent_size())
    once = dit_flops(config.model.dit, size, branches=count, audios=audios, slot=slot)
    return Plan(
        frames=frames,
        windows=windows,
        evaluations=windows.count * config.steps * count,
        operations=once * windows.count * config.steps,
        memory=_memory(config, windows, count, slot),
    )


def _memory(config: SampleConfig, windows: WindowPlan, branches: int, slot: int) -> dict[str, float]:
    """Weights and the largest arrays alive at once, by stage; what the README's formulae say."""
    model, size = config.model, jnp.dtype(config.dtype).itemsize
    sizes = {name: [x.size for x in jax.tree.leaves(abstract_params(part(model, name)))] for name in PARTS}
    weights = {name: sum(each) for name, each in sizes.items()}
    # While weights are read, the largest of them is in memory up to three times.
    loading = {name: sum(each) + 2 * max(each) for name, each in sizes.items()}
    c = model.dit
    rows, columns = config.latent_size()
    tokens = windows.window * rows * columns // (c.patch[0] * c.patch[1] * c.patch[2])
    alive = config.windows.rows * branches
    keys = (2 * c.text_len + 257) * c.dim * 2 * c.layers
    tiles = 4 * c.heads * QUERY_CHUNK * KEY_CHUNK  # float32 scores of one tile of attention
    latents = 4 * c.out_channels * rows * columns * windows.padded * (2 if config.solver == "euler" else 5)
    sound = windows.count * windows.window * slot * c.dim
    work = alive * tokens * (6 * c.dim + c.ffn_dim)
    denoise = size * (weights["dit"] + keys + sound + work) + alive * tiles + latents
    pixels = config.height * config.width
    return {
        "text encoder": float(size * loading["umt5"]),
        "transformer": float(max(denoise, size * loading["dit"])),
        # The decoder's cache and what it works on: 2 frames before each of its convolutions at full resolution.
        "decoder": float(4 * (weights["vae"] + 50 * model.vae.dim * pixels)),
    }


def matrix_speed(dtype: str, size: int = 2048) -> float:
    """Operations a second of a matrix product on the default device, measured in well under a second."""
    a = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(product(a, a))
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(times)


def describe(config: SampleConfig, cost: Plan, speed: float) -> str:
    """The plan in words, with the time at `SHARE_OF_PEAK` of the machine's speed."""
    windows, branches = cost.windows, len(config.guided().branches)
    seconds = cost.operations / (speed * SHARE_OF_PEAK)
    return "\n".join(
        [
            f"video     {cost.frames} frames, {cost.frames / config.fps:.2f} s at {config.fps:g} frames/s, "
            f"{config.height}x{config.width}{f', enlarged {config.enlarge} times' if config.enlarge > 1 else ''}",
            f"windows   {windows.count} of {windows.window} latent frames, {windows.overlap} shared, "
            f"for {windows.frames} latent frames",
            f"work      {cost.evaluations} evaluations = {windows.count} windows x {config.steps} steps x {branches} "
            f"branches, {cost.operations / 1e15:.3g} PFLOP",
            f"memory    about {cost.peak_memory / 2**30:.1f} GiB ({max(cost.memory, key=lambda k: cost.memory[k])})",
            f"time      about {_duration(seconds)} for denoising on {jax.devices()[0].device_kind} "
            f"({speed / 1e12:.2g} TFLOP/s measured)",
        ]
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
