"""A step's cost by formulae, for chips whose compiler is not here, and for the comparison of many meshes.

Shares of peak are those measured on one H200 (docs/performance.md); state is exact, temporaries are an estimate.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from stableavatar_jax.chips import Chip
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import PIXELS_PER_LATENT, latent_frames
from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.models.flops import train_flops
from stableavatar_jax.plan.compiled import by_kind, described
from stableavatar_jax.plan.roofline import mfu
from stableavatar_jax.plan.told import Told
from stableavatar_jax.plan.topology import Topology
from stableavatar_jax.sharding import make_mesh, rows_at_once, shardings, told
from stableavatar_jax.training.parts import dit
from stableavatar_jax.training.parts.config import TrainConfig

PRODUCTS = 0.69
"""Share of peak of the matrix products (679 of 989 TFLOP/s)."""
PASSES = 90
"""How often a layer reads or writes its tokens beside products and attention (1.9 ms of a layer)."""
BACKWARD = 2.5
"""Operations of attention's backward pass, in units of the forward pass."""


@dataclasses.dataclass(frozen=True)
class Step:
    """What a training step does on all rows together."""

    attention: float
    """Operations of self-attention, forward."""
    products: float
    """Operations of all else, forward."""
    tokens: int
    """Tokens of a row."""
    rows: int
    weights: float
    """Numbers in the weights."""
    trained: float
    """Numbers in the trained ones."""
    width: int
    layers: int
    forwards: tuple[int, int]
    """How often attention, and the rest, run forward: twice where they are made again."""


def step_of(config: TrainConfig, state: Any) -> Step:
    """The step of a config whose state has these shapes."""
    c, (frames, height, width) = config.model.dit, config.video
    size = latent_frames(frames), height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT
    tokens = math.prod(size) // math.prod(c.patch)
    attention = 4.0 * tokens**2 * c.dim * c.layers
    useful, _ = train_flops(c, size)
    count = lambda tree: float(sum(math.prod(x.shape) for x in jax.tree.leaves(tree)))  # noqa: E731
    again = {"none": (1, 1), "full": (2, 2)}.get(config.remat, (1, 2))
    return Step(
        attention=attention, products=useful / 3 - attention, tokens=tokens, rows=config.batch,
        weights=count((state.params, state.frozen)), trained=count(state.params), width=c.dim, layers=c.layers,
        forwards=again,
    )  # fmt: skip


def seconds(step: Step, sizes: dict[str, int], chip: Chip) -> tuple[dict[str, float], dict[str, float], float]:
    """Seconds by kind, bytes sent by kind and axes, and operations, of a chip of a mesh."""
    chips = math.prod(sizes.values())
    peak, rows = chip.tflops * 1e12, step.rows / (sizes["data"] * sizes["fsdp"])
    context, tensor = sizes["ring"] * sizes["ulysses"], sizes["tensor"]
    attention = step.rows * step.attention * (step.forwards[0] + BACKWARD) / chips
    products = step.rows * step.products * (step.forwards[1] + 2) / chips
    tokens = 2.0 * rows * step.tokens * step.width / context  # bytes of a layer's activations on a chip
    touched = PASSES * tokens * step.layers * (step.forwards[1] + 2.5) / tensor + 28.0 * step.trained / chips
    kernels = attention / (peak * chip.attention)
    computing = kernels + products / (peak * PRODUCTS) + touched / chip.bandwidth
    sent, whole = {}, 2.0 * step.weights / tensor
    if (cut := sizes["fsdp"] * context) > 1:
        sent["all-gather along fsdp x context"] = step.forwards[1] * whole * (cut - 1) / cut
        sent["reduce-scatter along fsdp x context"] = 4.0 * step.trained / tensor * (cut - 1) / cut
    if sizes["data"] > 1:
        sent["all-reduce along data"] = 8.0 * step.trained / (tensor * cut)
    passes = step.layers * (step.forwards[0] + 2)
    if sizes["ulysses"] > 1:
        sent["all-to-all along ulysses"] = 4 * tokens / tensor * passes * (1 - 1 / sizes["ulysses"])
    if sizes["ring"] > 1:
        sent["collective-permute along ring"] = 2 * tokens / tensor * passes * (sizes["ring"] - 1)
    if tensor > 1:
        sent["all-reduce along tensor"] = 2 * 3 * tokens * passes * (1 - 1 / tensor)
    exposed = sum(size for name, size in sent.items() if name.startswith("all-to-all") or "tensor" in name)
    hidden = (sum(sent.values()) - exposed) / chip.link
    waiting = exposed / chip.link
    total = waiting + max(computing, hidden)
    times = {"step": total, "computing": computing, "kernels": kernels, "waiting": waiting, "hidden": hidden}
    return times, sent, attention + products


def temporaries(step: Step, sizes: dict[str, int], config: TrainConfig) -> float:
    """Bytes beside the state: what the backward pass needs, a layer at work, gradients, weights as they are computed
    with.
    """
    c = config.model.dit
    chips = math.prod(sizes.values())
    tokens = step.rows * step.tokens / chips * sizes["tensor"]
    kept = {"full": 1.0, "none": 60.0, "attention": 2.0, "offload": 1.0}.get(config.remat, 3 + c.ffn_dim / c.dim)
    work = tokens * (4.0 * c.ffn_dim + 24.0 * c.dim)
    cut = sizes["fsdp"] * sizes["ring"] * sizes["ulysses"] * sizes["tensor"]
    return 2.0 * tokens * c.dim * c.layers * kept + work + (4.0 * step.trained + 2.0 * step.weights) / cut


def train(config: TrainConfig, topology: Topology) -> Told:
    """A training step of `config.video`. Raises Mistake where the mesh does not fit the work."""
    mesh = mesh_of(config, topology)
    run = dit.prepare(config, mesh)
    memory = by_kind(run.abstract, dit.abstract_batch(run))
    return told_of(config, topology, mesh, step_of(config, run.abstract), memory)


def mesh_of(config: TrainConfig, topology: Topology) -> Mesh:
    """The mesh of a config, on devices that stand for the chips. Raises Mistake."""
    rows = config.batch // config.step.accumulate
    return make_mesh(config.mesh, virtual(topology.chips), rows=rows, heads=config.model.dit.heads)


def told_of(config: TrainConfig, topology: Topology, mesh: Mesh, step: Step, memory: dict[str, float]) -> Told:
    """The plan of a step on a mesh, whose arguments take some memory by kind."""
    sizes = dict(mesh.shape)
    times, sent, flops = seconds(step, sizes, topology.chip)
    useful = 3 * (step.attention + step.products) * step.rows
    return Told(
        what=described(config), topology=topology.name, chips=topology.chips, mesh=told(mesh),
        memory=memory | {"temporaries": temporaries(step, sizes, config)}, available=topology.chip.memory,
        model_flops=useful, flops=flops, sent=sent, seconds=times,
        mfu=mfu(useful, times["step"], topology.chips, topology.chip),
        notes=("estimated by formulae; nothing was compiled",),
    )  # fmt: skip


def virtual(count: int) -> list[jax.Device]:
    """So many devices of the CPU, for shapes alone."""
    if len(jax.devices("cpu")) < count:
        raise Mistake(f"{count} virtual devices are needed, JAX was started with {len(jax.devices('cpu'))}")
    return jax.devices("cpu")[:count]


def search(config: TrainConfig, topology: Topology) -> list[Told]:
    """Every mesh that fits the work, those that fit the memory first, then by time."""
    run = dit.prepare(config, make_mesh(MeshConfig(context=1), virtual(1)))
    step, whole = step_of(config, run.abstract), by_kind(run.abstract, dit.abstract_batch(run))
    found = []
    for each in meshes(topology.chips):
        with contextlib.suppress(Mistake):  # rows, heads or weights cannot be cut so
            mesh = mesh_of(dataclasses.replace(config, mesh=each), topology)
            shardings(run.boxed, mesh)
            rows, cut = rows_at_once(mesh), topology.chips // mesh.shape["data"]
            memory = {kind: size / (rows if kind == "batch" else cut) for kind, size in whole.items()}
            found.append(told_of(config, topology, mesh, step, memory))
    best = lambda told: (not told.fits, round(told.seconds["step"], 2), sum(told.memory.values()))  # noqa: E731
    return sorted(found, key=best)


def meshes(chips: int) -> Iterator[MeshConfig]:
    """Every way to lay chips out along the axes."""
    divisors = [n for n in range(1, chips + 1) if chips % n == 0]
    for tensor in divisors:
        for context in (n for n in divisors if chips % (tensor * n) == 0):
            for fsdp in (n for n in divisors if chips % (tensor * context * n) == 0):
                data = chips // (tensor * context * fsdp)
                yield MeshConfig(data=data, fsdp=fsdp, context=context, tensor=tensor)
