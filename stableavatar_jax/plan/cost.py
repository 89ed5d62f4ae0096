"""The cost of a run, estimated before it starts: windows, evaluations, operations, memory, time."""

import dataclasses
import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from stableavatar_jax.diffusion.order import reach, work
from stableavatar_jax.diffusion.windows import WindowPlan
from stableavatar_jax.frames import IMAGE_TOKENS, SAMPLE_RATE, video_frames
from stableavatar_jax.models.attention import KEY_CHUNK, QUERY_CHUNK
from stableavatar_jax.models.audio_adapter import slot_indices
from stableavatar_jax.models.avatar import PARTS, abstract_params, part
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.models.flops import attention_flops, decoder_flops
from stableavatar_jax.plan import kept
from stableavatar_jax.plan.machine import Machine
from stableavatar_jax.sampling.config import Denoising, SampleConfig
from stableavatar_jax.sampling.timeline import Timeline, timeline
from stableavatar_jax.words import count, duration

PASSES = 26
"""Times that a block reads or writes all its tokens beside products and attention, counted in the program compiled for
an H100."""
READING = 1e9
"""Bytes of weights that are taken to be read and made ready in a second."""
COMPILING = {"cpu": 25.0}
"""Seconds that compiling all programs takes, by platform."""
COMPILING_ELSEWHERE = 110.0
"""The same on a GPU: 107 s on an H100 (docs/performance.md)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cost of one video."""

    time: Timeline
    """The geometry of the video."""
    evaluations: int
    """Passes of the transformer: windows x steps x branches."""
    operations: dict[str, float]
    """Floating-point operations of each stage (`models/flops.py`): encoding, denoising, decoding."""
    attention: float
    """Operations of denoising that attention kernels do."""
    moved: float
    """Bytes that denoising moves through memory beside products and attention."""
    weights: dict[str, float]
    """Bytes of weights that each stage reads."""
    memory: dict[str, float]
    """Bytes each stage needs; the largest counts, as stages follow one another."""
    remembered: float = 0.0
    """Bytes of these that steps remember for later ones."""


USABLE = 0.85
"""Share of a device's memory that is planned with."""


def plan(config: SampleConfig, time: Timeline, devices: int = 1) -> Plan:
    """The cost of a video, its rows dealt to so many devices. Nothing is loaded or allocated."""
    windows, branches = time.windows, config.denoising.guided().branches
    frames = video_frames(windows.window)
    heard = config.model.wav2vec2.output_length(round(frames * SAMPLE_RATE / time.fps))
    slot = slot_indices(heard, windows.window, config.model.dit.adapter.context).shape[1]
    size = (windows.window, *config.frame.latent_size)
    sizes = _sizes(config.model)
    values = {name: sum(each) for name, each in sizes.items()}
    tokens = size[0] * size[1] * size[2] // math.prod(config.model.dit.patch)
    evaluations = windows.count * config.denoising.branches_run()
    row = config.model.dit.dim * jnp.dtype(config.weights.dtype).itemsize
    return Plan(
        time=time,
        evaluations=evaluations,
        operations={
            "encoding": _encoding(config, windows, heard, values),
            "denoising": windows.count * kept.operations(config, slot),
            "decoding": _decoded(config) * windows.frames,
        },
        attention=attention_flops(config.model.dit, size) * evaluations,
        moved=float(PASSES * row * tokens * config.model.dit.layers * evaluations),
        weights=_weights(config, values),
        memory=_memory(config, time, len(branches), slot, sizes, devices),
        remembered=kept.remembered(config, _held(config.denoising, windows)[1], devices),
    )


@functools.lru_cache(maxsize=4)
def _sizes(model: AvatarConfig) -> dict[str, list[int]]:
    """Numbers in each array of every network's weights."""
    return {name: [x.size for x in jax.tree.leaves(abstract_params(part(model, name)))] for name in PARTS}


def seconds(config: SampleConfig, cost: Plan, machine: Machine) -> dict[str, float]:
    """Seconds of each stage of a run on a machine.

    Programs that an earlier run left are not compiled, and inputs that are given are not encoded.
    """
    rates, products = machine.rates, cost.operations["denoising"] - cost.attention
    work = {stage: cost.operations[stage] / rates[stage] for stage in ("encoding", "decoding")}
    work["denoising"] = cost.attention / rates["attention"] + products / rates["products"]
    if machine.bandwidth is not None:
        work["denoising"] += cost.moved / machine.bandwidth
    stages = ["encoding", "denoising", "decoding"]
    if config.inputs.decode_only:
        stages = stages[2:]
    elif config.inputs.conditions:
        stages = stages[1:]
    compiling = COMPILING.get(machine.platform, COMPILING_ELSEWHERE) * len(stages) / 3
    return {"compiling": compiling} | {stage: work[stage] + cost.weights[stage] / READING for stage in stages}


def _weights(config: SampleConfig, values: dict[str, int]) -> dict[str, float]:
    """Bytes of weights by stage; of the encoders all but the text's are float32, as the autoencoder is."""
    size = jnp.dtype(config.weights.dtype).itemsize
    small = 4 * (values["clip_vision"] + values["wav2vec2"] + values["vae"])
    return {
        "encoding": float(size * values["umt5"] + small),
        "denoising": float(size * values["dit"]),
        "decoding": float(4 * values["vae"]),
    }


def _decoded(config: SampleConfig) -> float:
    """Operations of decoding a latent frame."""
    return decoder_flops(config.model.vae, config.frame.height, config.frame.width)


def _encoding(config: SampleConfig, windows: WindowPlan, heard: int, values: dict[str, int]) -> float:
    """Operations of the encoders: every weight once for each token of text, picture and sound, and the picture's
    latents, for which the autoencoder's encoder runs through a window at half the work of its decoder.
    """
    model = config.model
    text = 2 * model.dit.text_len * (values["umt5"] - model.umt5.vocab * model.umt5.dim)
    picture = IMAGE_TOKENS * values["clip_vision"]
    sound = windows.count * heard * values["wav2vec2"]
    encoded = windows.window if model.after_picture == "grey" else 1
    return 2.0 * (text + picture + sound) + encoded * _decoded(config) / 2


def _memory(
    config: SampleConfig, time: Timeline, branches: int, slot: int, sizes: dict[str, list[int]], devices: int
) -> dict[str, float]:
    """Weights and the largest arrays alive at once on a device, by stage, by the formulae of docs/sampling.md."""
    model, size, windows = config.model, jnp.dtype(config.weights.dtype).itemsize, time.windows
    weights = {name: sum(each) for name, each in sizes.items()}
    # While weights are read, the largest of them is in memory up to three times.
    loading = {name: sum(each) + 2 * max(each) for name, each in sizes.items()}
    c = model.dit
    rows, columns = config.frame.latent_size
    tokens = windows.window * rows * columns // (c.patch[0] * c.patch[1] * c.patch[2])
    keys = (2 * c.text_len + IMAGE_TOKENS) * c.dim * 2 * c.layers
    held, heard = _held(config.denoising, windows)
    latents = 4 * c.out_channels * rows * columns * held * (2 if config.denoising.solver == "euler" else 5)
    sound = heard * windows.window * slot * c.dim
    work: float = -(-config.denoising.windows.at_once // devices) * _row(config, tokens, branches)
    work += kept.remembered(config, heard, devices)
    denoise = size * (weights["dit"] + keys + sound) + work + latents
    pixels = config.frame.height * config.frame.width
    # The decoder's cache and what it works on: 2 frames before each of its convolutions at full resolution.
    decode = 4 * (weights["vae"] + 50 * model.vae.dim * pixels)
    if config.denoising.order == "wavefront":  # sound is encoded and latents are decoded while it denoises
        denoise += decode + 4 * weights["wav2vec2"]
    return {
        "text encoder": float(size * loading["umt5"]),
        "transformer": float(max(denoise, size * loading["dit"])),
        "decoder": float(decode),
    }


def _row(config: SampleConfig, tokens: int, branches: int) -> int:
    """Bytes that a window takes while it passes the transformer, all its branches together."""
    c, size = config.model.dit, jnp.dtype(config.weights.dtype).itemsize
    tiles = 4 * c.heads * QUERY_CHUNK * KEY_CHUNK  # float32 scores of one tile of attention
    return branches * (size * tokens * (6 * c.dim + c.ffn_dim) + tiles)


def _held(denoising: Denoising, windows: WindowPlan) -> tuple[int, int]:
    """Latent frames, and windows' sounds, that an order holds: those of the video, or of the line."""
    if denoising.order != "wavefront":
        return windows.padded, windows.count
    meet = reach(windows.window, windows.overlap)
    return meet * denoising.steps * windows.stride, meet * (denoising.steps - 1) + 1


def settled(config: SampleConfig, *windows: int | None, devices: int = 1, beside: float = 0) -> SampleConfig:
    """A config with the order of denoising, and the rows that the first device has room for beside all else.

    `windows` are the numbers of windows of its videos (`Denoising.settled`); `beside` are bytes that are kept for other
    things. A CPU, which works on rows one after another, gets one. Rows are dealt to so many devices.
    """
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    rows = 1
    if limit:
        denoising = dataclasses.replace(config.denoising, order="wavefront")
        whole = dataclasses.replace(config, denoising=denoising)
        cost = plan(whole, timeline(SAMPLE_RATE, config.frame.fps, denoising.windows))
        c, (height, width) = config.model.dit, config.frame.latent_size
        tokens = denoising.windows.window * height * width // (c.patch[0] * c.patch[1] * c.patch[2])
        row = _row(config, tokens, len(denoising.guided().branches))
        rows = max(1, 1 + int((USABLE * limit - beside - cost.memory["transformer"]) // row))
    denoising = config.denoising.settled(*windows, most_rows=rows * devices, devices=devices)
    return dataclasses.replace(config, denoising=denoising)


def _order(denoising: Denoising, windows: WindowPlan) -> str:
    if denoising.order != "wavefront":
        return "plain: all windows of a step, then the next step; frames are made when the last step is done"
    meet, rows = reach(windows.window, windows.overlap), denoising.windows.at_once
    cost = work([windows.count], meet, denoising.steps, rows, denoising.schedule())
    return (
        f"wavefront: every step on a window of its own, in memory that no length adds to; {count(rows, 'row')} at "
        f"once, {cost.waste:.3g} evaluated for each needed; the first frames after {cost.before_first} of them"
    )


def describe(config: SampleConfig, cost: Plan, machine: Machine, *, live: bool = False) -> str:
    """The plan in words, with the time on a machine (`seconds`); of a `live` sound, the plan of a
    minute of it.
    """
    time, frame, windows = cost.time, config.frame, cost.time.windows
    each = seconds(config, cost, machine)
    lines = ["live      the sound comes while the video is made; the figures are those of a minute"] if live else []
    lines += [
        f"video     {count(time.frames, 'frame')}, {time.seconds:.2f} s at {time.fps:g} frames/s, "
        f"{frame.height}x{frame.width}" + (f", enlarged {frame.enlarge} times" if frame.enlarge > 1 else "")
    ]
    memory = {"decoder": cost.memory["decoder"]} if config.inputs.decode_only else cost.memory
    if not config.inputs.decode_only:
        lines += [
            f"windows   {windows.count} of {windows.window} latent frames, {windows.overlap} shared, "
            f"for {count(windows.frames, 'latent frame')}",
            f"work      {count(cost.evaluations, 'evaluation')} = {count(windows.count, 'window')} x "
            f"{kept.told(config)}, {cost.operations['denoising'] / 1e15:.3g} PFLOP",
            f"order     {_order(config.denoising, windows)}",
        ]
    largest = max(memory, key=lambda name: memory[name])
    return "\n".join(
        [
            *lines,
            f"memory    about {memory[largest] / 2**30:.1f} GiB ({largest})"
            + (f", {cost.remembered / 2**30:.2g} GiB of it kept for later steps" if cost.remembered else ""),
            f"time      about {duration(sum(each.values()))} on {machine.name} ({machine.told}): "
            + ", ".join(f"{stage} {duration(took)}" for stage, took in each.items())
            + "; nothing is compiled again that an earlier run of this size left",
        ]
    )
