"""What sampling costs on chips that are not here: one call of the wavefront order, rows of its own on each chip."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from stableavatar_jax.diffusion import order, solvers
from stableavatar_jax.frames import IMAGE_TOKENS, SAMPLE_RATE, video_frames
from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.models.audio_adapter import AudioSlots, slot_indices
from stableavatar_jax.models.avatar import boxed_params, part, settled
from stableavatar_jax.models.dit import Context
from stableavatar_jax.models.flops import dit_flops
from stableavatar_jax.plan.compiled import finish
from stableavatar_jax.plan.estimated import PASSES, PRODUCTS
from stableavatar_jax.plan.roofline import mfu
from stableavatar_jax.plan.told import Told
from stableavatar_jax.plan.topology import Topology
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.sampling.front import Front, Rows, make_advance
from stableavatar_jax.sampling.velocity import Shared, make_velocity
from stableavatar_jax.sharding import make_mesh, rows_at_once, shardings, told, unbox
from stableavatar_jax.training.memory import bytes_each

ROWS = MeshConfig(data=-1, fsdp=1, context=1)
"""Every chip has all weights, and rows of its own."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One call: so many windows, each with all branches of guidance."""

    config: SampleConfig
    windows: int
    branches: int
    size: tuple[int, int, int]
    """Latent frames, rows and columns of a window."""
    slot: int
    """Audio tokens of a latent frame."""
    flops: float
    """Operations of the model for all of it."""

    def __str__(self) -> str:
        frame = self.config.frame
        return (
            f"sampling, a call of {self.windows} windows x {self.branches} branches, "
            f"{video_frames(self.size[0])} frames of {frame.height}x{frame.width}"
        )


def call(config: SampleConfig, devices: int) -> Call:
    """A call that gives each device as many rows as the others."""
    denoising = config.denoising
    branches = denoising.guided().branches
    windows = denoising.windows.rows or devices // math.gcd(devices, len(branches))
    config = dataclasses.replace(
        config, denoising=dataclasses.replace(
            denoising, order="wavefront", windows=dataclasses.replace(denoising.windows, rows=windows, batches=1)
        )
    )  # fmt: skip
    window = denoising.windows.window
    heard = config.model.wav2vec2.output_length(round(video_frames(window) * SAMPLE_RATE / config.frame.fps))
    slot = slot_indices(heard, window, config.model.dit.adapter.context).shape[1]
    size = (window, *config.frame.latent_size)
    audios = len({branch.audio for branch in branches} - {"dropped"})
    once = dit_flops(config.model.dit, size, branches=len(branches), audios=audios, slot=slot)
    return Call(config, windows, len(branches), size, slot, windows * once)


def compiled(config: SampleConfig, mesh_config: MeshConfig, topology: Topology) -> Told:
    """A call of the wavefront order, compiled by the TPU's own compiler. Raises Mistake."""
    mesh = make_mesh(ROWS if mesh_config == MeshConfig() else mesh_config, topology.devices(),
                     heads=config.model.dit.heads)  # fmt: skip
    work = call(config, rows_at_once(mesh))
    denoising, c = work.config.denoising, config.model.dit
    dit = part(config.model, "dit", settled(config.model, "dit", mesh.devices.flat[0], config.weights.dtype))
    solver = solvers.solver(denoising.solver, denoising.steps, denoising.shift)
    velocity = make_velocity(dit, denoising.guided(), mesh)
    advance: Any = make_advance(velocity, solver, denoising.windows, "tpu")
    whole = jax.NamedSharding(mesh, jax.P())

    def shaped(*shape: int, dtype: str = config.weights.dtype) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=whole)

    boxed = boxed_params(dit)
    params = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), unbox(boxed), shardings(boxed, mesh)
    )
    keys = [(shaped(c.layers, 2, n, c.dim), shaped(c.layers, 2, n, c.dim)) for n in (c.text_len, IMAGE_TOKENS)]
    frames = work.size[0]
    sound = shaped(frames, dtype="int32")
    shared = Shared(params, Context(*keys), shaped(1, *work.size, c.in_channels - c.out_channels),
                    AudioSlots(shaped(1, frames, work.slot, c.dim), sound))  # fmt: skip
    front = _front(work, solver, shaped)
    number: Any = shaped(1, work.windows, dtype="int32")
    live: Any = shaped(1, work.windows, dtype="bool")
    rows = Rows(number, number, live, number, number, shaped(1, work.windows, dtype="uint32"))
    memory = {"weights": float(bytes_each(params)), "conditions": float(bytes_each(shared) - bytes_each(params)),
              "latents": float(bytes_each(front))}  # fmt: skip
    return finish(advance.lower(front, rows, shared), str(work), topology, mesh, memory, work.flops)


def _front(work: Call, solver: Any, shaped: Any) -> Front:
    """Shapes of what is on the line."""
    windows, (frames, height, width) = work.config.denoising.windows, work.size
    c, meet = work.config.model.dit, order.reach(windows.window, windows.overlap)
    z = shaped(solver.steps, meet * windows.stride, height, width, c.out_channels, dtype="float32")
    kept = jax.eval_shape(lambda z: solvers.init(solver, z), z)
    return Front(
        z, shaped(*kept.shape, dtype="float32"),
        shaped(solver.steps, windows.overlap, height, width, c.out_channels, dtype="float32"),
        shaped(meet * (solver.steps - 1) + 1, frames, work.slot, c.dim),
    )  # fmt: skip


def estimated(config: SampleConfig, topology: Topology) -> Told:
    """A call by formulae, every chip with all weights and rows of its own."""
    work, chip, c = call(config, topology.chips), topology.chip, config.model.dit
    tokens = math.prod(work.size) // math.prod(c.patch)
    rows = work.windows * work.branches
    each = math.ceil(rows / topology.chips)
    attention = 4.0 * tokens**2 * c.dim * c.layers
    products = work.flops / rows - attention
    peak, size = chip.tflops * 1e12, jnp.dtype(config.weights.dtype).itemsize
    kernels = each * attention / (peak * chip.attention)
    seconds = kernels + each * products / (peak * PRODUCTS)
    seconds += each * PASSES * size * tokens * c.dim * c.layers / chip.bandwidth
    dit = part(config.model, "dit")
    weights = float(size * sum(x.size for x in jax.tree.leaves(unbox(boxed_params(dit)))))
    memory = {"weights": weights, "temporaries": each * size * tokens * (12.0 * c.dim + c.ffn_dim)}
    mesh = make_mesh(ROWS, jax.devices("cpu")[: topology.chips])
    return Told(
        what=str(work), topology=topology.name, chips=topology.chips, mesh=told(mesh), memory=memory,
        available=chip.memory, model_flops=work.flops, flops=each * (attention + products),
        seconds={"step": seconds, "computing": seconds, "kernels": kernels},
        mfu=mfu(work.flops, seconds, topology.chips, chip), notes=("estimated by formulae; nothing was compiled",),
    )  # fmt: skip
