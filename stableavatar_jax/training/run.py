"""A run put together: the network, its state on the mesh, and the step compiled for it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stableavatar_jax import sharding
from stableavatar_jax.checkpoint import load_params
from stableavatar_jax.compiling import compiler_options, quickly
from stableavatar_jax.sharding import divides, is_boxed, make_mesh, shardings, unbox
from stableavatar_jax.training.config import RunConfig
from stableavatar_jax.training.state import TrainState, Tree
from stableavatar_jax.training.step import Step

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of the arrays of a batch."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What does not change while a run goes on."""

    config: Any
    """The part's `RunConfig`."""
    mesh: Mesh
    model: Any
    """The network that is trained, or several by their names."""
    boxed: Any
    """Shapes and dtypes of its weights, with the names of their axes."""
    abstract: TrainState
    """Shapes, dtypes and shardings of the state."""
    init: jax.stages.Wrapped
    """Jitted: the state before the first step, its weights drawn from a key."""
    begin: jax.stages.Wrapped
    """Jitted: the state before the first step, around given weights."""
    step: jax.stages.Wrapped
    """Jitted; the state it is given is given away. It compiles once for each shape of a batch."""
    load: Callable[["Run", Path], Any]
    """The weights to begin with, out of a model directory."""
    flops: Callable[[Shapes], tuple[float, float]] | None = None
    """Operations of a step, where they are known: what learning needs, and with what remat computes again."""
    sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Sampling defaults of the model that is trained (`training.defaults`), where they are known."""

    @contextlib.contextmanager
    def on_mesh(self) -> Iterator[None]:
        """Where steps are traced: with the mesh, and what the axes' names mean on it."""
        with sharding.on_mesh(self.mesh):
            yield

    @property
    def devices(self) -> list[jax.Device]:
        """Devices of the mesh."""
        return self.mesh.devices.ravel().tolist()


def assemble(
    config: RunConfig,
    model: Any,
    boxed: Any,
    *,
    draw: Callable[[jax.Array], Any],
    begin: Callable[[Any], TrainState],
    step: Step,
    load: Callable[[Run, Path], Any],
    flops: Callable[[Shapes], tuple[float, float]] | None = None,
    mesh: Mesh | None = None,
    heads: int | None = None,
) -> Run:
    """The run of any part, on all devices unless a mesh is given; nothing is allocated or compiled yet.

    `boxed` are the abstract weights with the names of their axes, `draw` makes them from a key, and `begin` the state
    around them; `heads` are those of attention, where tokens can be cut. Raises Mistake where rows, heads or weights
    cannot be cut as the mesh asks.
    """
    if mesh is None:
        rows, parts = config.batch, accumulated(config)
        divides("step.accumulate", parts, rows, "the rows of a batch")
        mesh = make_mesh(config.mesh, rows=rows // parts, heads=heads)
    state = jax.tree.map(_without_empty, jax.eval_shape(begin, boxed), is_leaf=is_boxed)
    with jax.set_mesh(mesh):
        places = shardings(state, mesh)
    abstract = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), unbox(state), places
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    platform = mesh.devices.flat[0].platform
    # The CPU's options save memory where stacked weights are bfloat16; what is trained is float32.
    options = None if platform == "cpu" else compiler_options(platform, deterministic=config.deterministic)
    return Run(
        config, mesh, model, boxed, abstract,
        init=jax.jit(lambda key: begin(draw(key)), out_shardings=places, compiler_options=quickly()),
        begin=jax.jit(begin, out_shardings=places),
        step=jax.jit(step, donate_argnums=0, out_shardings=(places, everywhere), compiler_options=options),
        load=load, flops=flops,
    )  # fmt: skip


def accumulated(config: RunConfig) -> int:
    """Parts in which a step's batch goes through one after another."""
    return getattr(getattr(config, "step", None), "accumulate", 1)


def _without_empty(leaf: Any) -> Any:
    """A leaf that an optimizer has masked has names of axes, and none."""
    return leaf if jax.tree.leaves(leaf) else unbox(leaf)


def fresh_state(run: Run) -> TrainState:
    """The state before the first step, from the checkpoint's weights or drawn from the seed."""
    config = run.config
    if config.checkpoint is None:
        with run.on_mesh():
            return run.init(jax.random.key(config.seed))
    params = run.load(run, config.checkpoint)
    with run.on_mesh():
        return run.begin(params)


def load_weights(run: Run, folder: Path, name: str, boxed: Any) -> Tree:
    """A part's weights out of a model directory, in float32, where the run's mesh wants them."""
    with jax.set_mesh(run.mesh):
        return load_params(folder / name, unbox(boxed), dtype="float32", shardings=shardings(boxed, run.mesh))
