"""A run put together: the network, its state on the mesh, and the step compiled for it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stableavatar_jax.checkpoint import load_params, save_params
from stableavatar_jax.compiling import quickly
from stableavatar_jax.config import FILE, read_config, to_json, write_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.sharding import RULES, make_mesh, shardings
from stableavatar_jax.training.config import RunConfig
from stableavatar_jax.training.saving import Checkpoints
from stableavatar_jax.training.state import TrainState, Tree

Shapes = Mapping[str, tuple[int, ...]]
"""Of the arrays of a batch."""
Step = Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Run:
    """What does not change while a run goes on."""

    config: Any
    """The part's `RunConfig`."""
    mesh: Mesh
    model: Any
    """The network that is trained."""
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

    @contextlib.contextmanager
    def on_mesh(self) -> Iterator[None]:
        """Where steps are traced: with the mesh, and what the axes' names mean on it."""
        with jax.set_mesh(self.mesh), nn.logical_axis_rules(RULES):
            yield


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
    accumulate: int = 1,
    mesh: Mesh | None = None,
) -> Run:
    """The run of any part, on all devices unless a mesh is given; nothing is allocated or compiled yet.

    `boxed` are the abstract weights with the names of their axes, `draw` makes them from a key, and `begin` the state
    around them. Raises ValueError where the batch cannot be spread over the mesh.
    """
    mesh = make_mesh(config.mesh) if mesh is None else mesh
    spread = mesh.shape["data"] * mesh.shape["fsdp"]
    if config.batch % (spread * accumulate):
        raise Mistake(
            f"a batch of {config.batch} rows in {accumulate} parts cannot be spread evenly over data x "
            f"fsdp = {spread} devices; use a multiple of {spread * accumulate}, or set --mesh.context"
        )
    state = jax.tree.map(_without_empty, jax.eval_shape(begin, boxed), is_leaf=_is_boxed)
    with jax.set_mesh(mesh):
        places = shardings(state, mesh)
    abstract = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), nn.unbox(state), places
    )
    whole = NamedSharding(mesh, PartitionSpec())
    return Run(
        config, mesh, model, boxed, abstract,
        init=jax.jit(lambda key: begin(draw(key)), out_shardings=places, compiler_options=quickly()),
        begin=jax.jit(begin, out_shardings=places),
        step=jax.jit(step, donate_argnums=0, out_shardings=(places, whole)),
        load=load, flops=flops,
    )  # fmt: skip


def _is_boxed(leaf: Any) -> bool:
    return isinstance(leaf, nn.meta.AxisMetadata)


def _without_empty(leaf: Any) -> Any:
    """A leaf that an optimizer has masked has names of axes, and none."""
    return leaf if jax.tree.leaves(leaf) else nn.unbox(leaf)


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
        return load_params(folder / name, nn.unbox(boxed), dtype="float32", shardings=shardings(boxed, run.mesh))


def settle(config: RunConfig) -> Any:
    """The config with the model that its checkpoint or its run directory says, which is written down at the start.

    Raises Mistake where a run is to go on with options that would make it another run.
    """
    if config.checkpoint:
        config = dataclasses.replace(config, model=read_config(config.checkpoint, AvatarConfig))
    if not (config.run_dir / FILE).exists():
        if jax.process_index() == 0:
            write_config(config.run_dir, config)
        return config
    before, now = (_told_apart(c) for c in (read_config(config.run_dir, type(config)), config))
    changed = [f"{key} was {_short(before.get(key))}, now {_short(now.get(key))}" for key in sorted(before | now)
               if before.get(key) != now.get(key)]
    if changed:
        raise Mistake(f"{config.run_dir / FILE}: the run began otherwise: {'; '.join(changed)}; "
                          "go on with the same options, or give another --run-dir")
    return config


def _told_apart(config: RunConfig) -> Tree:
    """The options that make a run what it is, by their names on the command line."""
    flat = traverse_util.flatten_dict(to_json(config), sep=".")
    free = tuple(f"{name}." for name in config.FREE)
    return {key: value for key, value in flat.items() if not f"{key}.".startswith(free)}


def best_state(run: Run) -> TrainState:
    """The state of the checkpoint with the least loss; raises Mistake where there is none."""
    with contextlib.closing(Checkpoints(run.config.run_dir)) as checkpoints:
        step = checkpoints.best
        if step is None:
            raise Mistake(f"{run.config.run_dir}: no whole checkpoint to export")
        return checkpoints.restore(run.abstract, step)[0]


def write_parts(output: Path, config: RunConfig, parts: Mapping[str, Tree]) -> None:
    """Write parts of a model, by their names in `models.avatar.PARTS`, and their place in its config.json.

    The directory may hold other parts already, which stay as they are; those it lacks are linked to where the run
    started from. Raises Mistake where it has one of these.
    """
    output.mkdir(parents=True, exist_ok=True)
    model = config.model
    if (output / FILE).exists():
        ours = {name: getattr(model, name) for name in parts}
        model = dataclasses.replace(read_config(output, AvatarConfig), **ours)
    for name, params in parts.items():
        save_params(output / name, params)
    for other in sorted(config.checkpoint.iterdir()) if config.checkpoint else ():
        if other.name.removesuffix(".safetensors") not in (*parts, FILE) and not (output / other.name).exists():
            (output / other.name).symlink_to(other.absolute())
    write_config(output, model)


def _short(value: Any) -> str:
    return text if len(text := str(value)) <= 80 else f"{text[:77]}..."
