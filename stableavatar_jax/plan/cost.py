"""The cost of a run, estimated before it starts: windows, evaluations, operations, memory, time."""

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from stableavatar_jax.frames import IMAGE_TOKENS, SAMPLE_RATE, video_frames
from stableavatar_jax.models.attention import KEY_CHUNK, QUERY_CHUNK
from stableavatar_jax.models.audio_adapter import slot_indices
from stableavatar_jax.models.avatar import PARTS, abstract_params, part
from stableavatar_jax.models.flops import dit_flops
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.sampling.timeline import Timeline

SHARE_OF_PEAK = 0.6
"""Share of the machine's matrix-product speed that the transformer is taken to reach."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cost of one video."""

    time: Timeline
    """The geometry of the video."""
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


def plan(config: SampleConfig, time: Timeline) -> Plan:
    """The cost of a video. Nothing is loaded or allocated."""
    windows, steps = time.windows, config.denoising.steps
    branches = config.denoising.guided().branches
    audios = len({b.audio for b in branches} - {"dropped"})
    frames = video_frames(windows.window)
    heard = config.model.wav2vec2.output_length(round(frames * SAMPLE_RATE / time.fps))
    slot = slot_indices(heard, windows.window, config.model.dit.adapter.context).shape[1]
    size = (windows.window, *config.frame.latent_size)
    once = dit_flops(config.model.dit, size, branches=len(branches), audios=audios, slot=slot)
    return Plan(
        time=time,
        evaluations=windows.count * steps * len(branches),
        operations=once * windows.count * steps,
        memory=_memory(config, time, len(branches), slot),
    )


def _memory(config: SampleConfig, time: Timeline, branches: int, slot: int) -> dict[str, float]:
    """Weights and the largest arrays alive at once, by stage, by the formulae of docs/sampling.md."""
    model, size, windows = config.model, jnp.dtype(config.weights.dtype).itemsize, time.windows
    sizes = {name: [x.size for x in jax.tree.leaves(abstract_params(part(model, name)))] for name in PARTS}
    weights = {name: sum(each) for name, each in sizes.items()}
    # While weights are read, the largest of them is in memory up to three times.
    loading = {name: sum(each) + 2 * max(each) for name, each in sizes.items()}
    c = model.dit
    rows, columns = config.frame.latent_size
    tokens = windows.window * rows * columns // (c.patch[0] * c.patch[1] * c.patch[2])
    alive = config.denoising.windows.rows * branches
    keys = (2 * c.text_len + IMAGE_TOKENS) * c.dim * 2 * c.layers
    tiles = 4 * c.heads * QUERY_CHUNK * KEY_CHUNK  # float32 scores of one tile of attention
    latents = 4 * c.out_channels * rows * columns * windows.padded * (2 if config.denoising.solver == "euler" else 5)
    sound = windows.count * windows.window * slot * c.dim
    work = alive * tokens * (6 * c.dim + c.ffn_dim)
    denoise = size * (weights["dit"] + keys + sound + work) + alive * tiles + latents
    pixels = config.frame.height * config.frame.width
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
    time, frame, steps = cost.time, config.frame, config.denoising.steps
    windows, branches = time.windows, len(config.denoising.guided().branches)
    lines = [
        f"video     {time.frames} frames, {time.seconds:.2f} s at {time.fps:g} frames/s, {frame.height}x{frame.width}"
        + (f", enlarged {frame.enlarge} times" if frame.enlarge > 1 else "")
    ]
    if config.inputs.decode_only:
        return "\n".join([*lines, f"memory    about {cost.memory['decoder'] / 2**30:.1f} GiB (decoder)"])
    seconds = cost.operations / (speed * SHARE_OF_PEAK)
    return "\n".join(
        [
            *lines,
            f"windows   {windows.count} of {windows.window} latent frames, {windows.overlap} shared, "
            f"for {windows.frames} latent frames",
            f"work      {cost.evaluations} evaluations = {windows.count} windows x {steps} steps x {branches} "
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
