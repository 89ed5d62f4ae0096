"""A step compiled for chips that are not here, and what the compiled program says that it costs."""

import re
from typing import Any

import jax

from stableavatar_jax.plan.program import Program
from stableavatar_jax.plan.roofline import Cost, cost, mfu
from stableavatar_jax.plan.told import Told
from stableavatar_jax.plan.topology import Topology
from stableavatar_jax.sharding import make_mesh, told
from stableavatar_jax.training.memory import bytes_each
from stableavatar_jax.training.parts import distil, dit
from stableavatar_jax.training.parts.config import TrainConfig
from stableavatar_jax.training.state import TrainState


def train(config: TrainConfig, topology: Topology) -> Told:
    """A training step of `config.video`, compiled by the TPU's own compiler. Raises Mistake."""
    heads, rows = config.model.dit.heads, config.batch // config.step.accumulate
    mesh = make_mesh(config.mesh, topology.devices(), rows=rows, heads=heads)
    run = {"dit": dit, "distil": distil}[config.part].prepare(config, mesh)
    batch = dit.abstract_batch(run)
    state = run.abstract
    flops = run.flops({name: x.shape for name, x in batch.items()}) if run.flops else (0.0, 0.0)
    with run.on_mesh():
        lowered = run.step.lower(state, batch)
    return finish(lowered, described(config), topology, mesh, by_kind(state, batch), flops[0])


def described(config: TrainConfig) -> str:
    """A training step in words."""
    frames, height, width = config.video
    video = f"{frames} frames of {height}x{width}"
    return f"training of {config.train}, {video}, batch {config.batch}, remat {config.remat}"


def by_kind(state: TrainState, batch: Any) -> dict[str, float]:
    """Bytes of a step's arguments on each device."""
    kinds = {
        "trained weights": state.params, "frozen weights": state.frozen, "optimizer": state.optimizer,
        "average": state.ema, "batch": batch,
    }  # fmt: skip
    return {name: float(bytes_each(tree)) for name, tree in kinds.items()}


def finish(lowered: Any, what: str, topology: Topology, mesh: Any, memory: dict[str, float], flops: float) -> Told:
    """Compile a program whose arguments take some memory by kind, and read what it costs."""
    common: dict[str, Any] = dict(
        what=what, topology=topology.name, chips=topology.chips, mesh=told(mesh), available=topology.chip.memory,
        model_flops=flops,
    )  # fmt: skip
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        found = re.search(r"[Uu]sed ([\d.]+)([GM]) of ([\d.]+)([GM]) hbm", str(error))
        unit = {"G": 2**30, "M": 2**20}
        needed = float(found[1]) * unit[found[2]] if found else 2 * topology.chip.memory
        rest = max(needed - sum(memory.values()), 0.0)
        note = "the compiler gave up for want of memory: no time is known"
        return Told(**common, memory=memory | {"temporaries": rest}, accepted=False, notes=(note,))
    done = cost(Program(compiled.as_text(), dict(mesh.shape)), topology.chip)
    share = f"attention kernels are taken at {topology.chip.attention:.2f} of the peak, as measured by others"
    return Told(
        **common, memory=memory | _beside_arguments(compiled.memory_analysis()), accepted=True, flops=done.flops,
        sent=_by_axes(done), seconds=_times(done), mfu=mfu(flops, done.total, topology.chips, topology.chip),
        notes=(f"compiled for {topology.name}; {share}",),
    )  # fmt: skip


def _beside_arguments(stats: Any) -> dict[str, float]:
    """Bytes that a program takes beside its arguments. Temporaries are those in use at once: JAX's own size of them
    counts twice, for a TPU, what its compiler leaves unused (docs/pods.md).
    """
    results = max(stats.output_size_in_bytes - stats.alias_size_in_bytes, 0)
    used = stats.peak_memory_in_bytes - stats.argument_size_in_bytes - results
    program = stats.generated_code_size_in_bytes
    return {"temporaries": float(used), "results": float(results), "program": float(program)}


def _by_axes(done: Cost) -> dict[str, float]:
    return {f"{kind} along {axes}": size for (kind, axes), size in sorted(done.sent.items())}


def _times(done: Cost) -> dict[str, float]:
    return {
        "step": done.total, "computing": done.computing, "kernels": done.kernels, "waiting": done.waiting,
        "hidden": done.hidden,
    }  # fmt: skip
