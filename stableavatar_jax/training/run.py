"""A run put together: the network, its state on the mesh, and the step compiled for it."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stableavatar_jax.checkpoint import load_params, save_params
from stableavatar_jax.config import FILE, ConfigError, read_config, to_json, write_config
from stableavatar_jax.models.avatar import AvatarConfig, boxed_params
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.sharding import RULES, make_mesh, shardings
from stableavatar_jax.training.config import TrainConfig
from stableavatar_jax.training.saving import Checkpoints, TrainingError
from stableavatar_jax.training.state import TrainState, Tree, begin, boxed_state, join, make_optimizer, merged
from stableavatar_jax.training.step import make_train_step

# Options that a run may be continued with other values of: they change how long it goes on and what is seen of it.
FREE = {
    "data", "clips", "on_bad", "missing_masks", "run_dir", "steps", "checkpoint_every", "keep", "log_every",
    "validate_every", "validation", "export", "compile_only", "devices", "video", "distributed", "mesh", "remat",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Run:
    """What does not change while a run goes on."""

    config: TrainConfig
    mesh: Mesh
    model: DiT
    abstract: TrainState
    """Shapes, dtypes and shardings of the state."""
    init: jax.stages.Wrapped
    """Jitted: the state before the first step, its weights drawn from a key."""
    step: jax.stages.Wrapped
    """Jitted `make_train_step`; the state it is given is given away. It compiles once for each shape of a batch."""

    @contextlib.contextmanager
    def on_mesh(self) -> Iterator[None]:
        """Where steps are traced: with the mesh, and what the axes' names mean on it."""
        with jax.set_mesh(self.mesh), nn.logical_axis_rules(RULES):
            yield


def prepare(config: TrainConfig, mesh: Mesh | None = None) -> Run:
    """The run of a config, on all devices unless a mesh is given; nothing is allocated or compiled yet.

    Raises ValueError where the batch cannot be spread over the mesh.
    """
    mesh = make_mesh(config.mesh) if mesh is None else mesh
    spread = mesh.shape["data"] * mesh.shape["fsdp"]
    if config.batch % (spread * config.step.accumulate):
        raise ValueError(
            f"a batch of {config.batch} rows in {config.step.accumulate} parts cannot be spread evenly over data x "
            f"fsdp = {spread} devices; use a multiple of {spread * config.step.accumulate}, or set --mesh.context"
        )
    model = config.dit()
    boxed = boxed_state(model, config.train, config.optimizer, config.lora, dtype=config.dtype)
    with jax.set_mesh(mesh):
        places = shardings(boxed, mesh)
    abstract = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), nn.unbox(boxed), places
    )
    example = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), model.example())

    def init(key: jax.Array) -> TrainState:
        params = nn.unbox(model.init(key, *example)["params"])
        if config.train == "all":
            # Wan's own start: the velocity is zero, until the head has learned otherwise.
            params["head"]["kernel"] = jnp.zeros_like(params["head"]["kernel"])
            # Keys and values of sound are zero so as not to disturb a backbone that knows none; here there is none.
            attention = params["blocks"]["cross_attention"]
            attention["k_audio"], attention["v_audio"] = (jax.tree.map(jnp.copy, attention[n]) for n in ("k", "v"))
        return _begin(config, params)

    step = make_train_step(model, config.step, config.optimizer, make_optimizer(config.optimizer), seed=config.seed)
    whole = NamedSharding(mesh, PartitionSpec())
    return Run(
        config, mesh, model, abstract, jax.jit(init, out_shardings=places),
        jax.jit(step, donate_argnums=0, out_shardings=(places, whole)),
    )


def fresh_state(run: Run) -> TrainState:
    """The state before the first step, from the checkpoint's weights or drawn from the seed."""
    config = run.config
    if config.checkpoint is None:
        with run.on_mesh():
            return run.init(jax.random.key(config.seed))
    boxed, places = boxed_params(run.model), jax.tree.map(lambda leaf: leaf.sharding, run.abstract)
    with jax.set_mesh(run.mesh):
        params = load_params(
            config.checkpoint / "dit", nn.unbox(boxed), dtype="float32", shardings=shardings(boxed, run.mesh)
        )
    with run.on_mesh():
        return jax.jit(functools.partial(_begin, config), out_shardings=places)(params)


def _begin(config: TrainConfig, params: Any) -> TrainState:
    return begin(params, config.train, config.optimizer, config.lora, seed=config.seed, dtype=config.dtype)


def settle(config: TrainConfig) -> TrainConfig:
    """The config with the model that its checkpoint or its run directory says, which is written down at the start.

    Raises ConfigError where a run is to go on with options that would make it another run.
    """
    if config.checkpoint:
        config = dataclasses.replace(config, model=read_config(config.checkpoint, AvatarConfig))
    if not (config.run_dir / FILE).exists():
        if jax.process_index() == 0:
            write_config(config.run_dir, config)
        return config
    before, now = (to_json(c) for c in (read_config(config.run_dir, TrainConfig), config))
    changed = [f"{key} was {_short(before[key])}, now {_short(now[key])}" for key in before
               if key not in FREE and before[key] != now[key]]
    if changed:
        raise ConfigError(f"{config.run_dir / FILE}: the run began otherwise: {'; '.join(changed)}; "
                          "go on with the same options, or give another --run-dir")
    return config


def export(config: TrainConfig, output: Path) -> tuple[int, Tree | None]:
    """Write the best checkpoint's weights as a model directory for `sample.py`; return their step, and their LoRA.

    The average is taken where there is one, and a LoRA is merged in. The encoders' folders are those of the model
    directory the run started from, linked. Raises TrainingError where there is no checkpoint, CheckpointError where
    the directory holds weights already.
    """
    run = prepare(config)
    checkpoints = Checkpoints(config.run_dir)
    step = checkpoints.best
    if step is None:
        raise TrainingError(f"{config.run_dir}: no whole checkpoint to export")
    state, _ = checkpoints.restore(run.abstract, step)
    checkpoints.close()
    variables = join(state.ema or state.params, state.frozen)
    output.mkdir(parents=True, exist_ok=True)
    with run.on_mesh():
        save_params(output / "dit", jax.jit(merged)(variables))
    for other in sorted(config.checkpoint.iterdir()) if config.checkpoint else ():
        if other.name not in ("dit", FILE) and not (output / other.name).exists():
            (output / other.name).symlink_to(other.absolute())
    write_config(output, config.model)
    return step, variables.get("lora")


def compiled_memory(config: TrainConfig) -> dict[str, float]:
    """Compile the step for `config.video` and return GiB on each device: `state`, `batch`, `temporary`, `total`."""
    run = prepare(config)
    frames, height, width = config.video
    c, vae = config.model.dit, config.model.vae
    length = min(226, c.text_len)  # training cuts prompts there
    rows, size = config.batch, ((frames + 3) // 4, height // vae.space_factor, width // vae.space_factor)
    place = NamedSharding(run.mesh, PartitionSpec(("data", "fsdp")))
    shaped = lambda *shape, dtype="float32": jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=place)  # noqa: E731
    latents = {name: shaped(*size, c.out_channels) for name in (
        "latents_mean", "latents_logvar", "reference_mean", "reference_logvar")}
    batch = latents | {
        "text": shaped(length, c.text_dim), "text_mask": shaped(length, dtype="bool"),
        "image": shaped(257, c.image_dim),
        "audio": shaped(2 * frames - 1, c.adapter.audio_dim), "face_mask": shaped(*size), "lip_mask": shaped(*size),
    }
    with run.on_mesh():
        memory: Any = run.step.lower(run.abstract, batch).compile().memory_analysis()
    state = sum(_bytes(leaf) for leaf in jax.tree.leaves(run.abstract))
    gib = {
        "state": state, "batch": memory.argument_size_in_bytes - state, "temporary": memory.temp_size_in_bytes,
        "total": memory.argument_size_in_bytes + memory.temp_size_in_bytes
        + memory.output_size_in_bytes - memory.alias_size_in_bytes,
    }
    return {name: size / 2**30 for name, size in gib.items()}


def _bytes(leaf: jax.ShapeDtypeStruct) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * jnp.dtype(leaf.dtype).itemsize


def _short(value: Any) -> str:
    return text if len(text := str(value)) <= 80 else f"{text[:77]}..."
