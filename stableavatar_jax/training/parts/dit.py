"""Training the DiT, on precomputed records or on clips: its run, its data, its validation and its export."""

import math
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stableavatar_jax.config import read_config
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.iterator import CheckpointableIterator, open_records
from stableavatar_jax.encoding.online import open_clips
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.avatar import boxed_params
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.training.config import TrainConfig
from stableavatar_jax.training.loop import Validate
from stableavatar_jax.training.parts.dit_step import make_train_step
from stableavatar_jax.training.run import Run, assemble, best_state, load_weights, write_parts
from stableavatar_jax.training.speed import step_flops
from stableavatar_jax.training.state import Tree, begin, join, make_optimizer, merged

Config = TrainConfig


def prepare(config: TrainConfig, mesh: Mesh | None = None) -> Run:
    """The run of a DiT's config; raises ValueError where the batch cannot be spread over the mesh."""
    model = config.dit()
    example = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), model.example())

    def draw(key: jax.Array) -> Any:
        params = nn.unbox(model.init(key, *example)["params"])
        if config.train == "all":
            # Wan's own start: the velocity is zero, until the head has learned otherwise.
            params["head"]["kernel"] = jnp.zeros_like(params["head"]["kernel"])
            # Keys and values of sound are zero so as not to disturb a backbone that knows none; here there is none.
            attention = params["blocks"]["cross_attention"]
            attention["k_audio"], attention["v_audio"] = (jax.tree.map(jnp.copy, attention[n]) for n in ("k", "v"))
        return params

    def load(run: Run, folder: Path) -> Any:
        return load_weights(run, folder, "dit", run.boxed)

    return assemble(
        config, model, boxed_params(model), draw=draw, load=load, mesh=mesh, accumulate=config.step.accumulate,
        begin=lambda params: begin(
            params, config.train, config.optimizer, config.lora, seed=config.seed, dtype=config.dtype
        ),
        step=make_train_step(model, config.step, config.optimizer, make_optimizer(config.optimizer), seed=config.seed),
        flops=lambda shapes: step_flops(model.config, shapes["latents_mean"], shapes["audio"][1], model.compute.remat),
    )  # fmt: skip


def open_data(config: TrainConfig, *, host: int = 0, hosts: int = 1) -> CheckpointableIterator:
    """This process's rows of every batch: from records, or from clips that are encoded on the way."""
    if config.data and not config.clips:
        return open_records(config.data, batch=config.batch, seed=config.seed, host=host, hosts=hosts)
    if config.clips and not config.data:
        model = read_config(config.checkpoint, AvatarConfig) if config.checkpoint else config.model
        return open_clips(
            config.clips, config.window, model, config.checkpoint, batch=config.batch, seed=config.seed,
            tally=Tally(config.on_bad, config.missing_masks), host=host, hosts=hosts,
        )  # fmt: skip
    raise Mistake(
        "one of --data RECORDS (made by `python -m stableavatar_jax.data precompute`) and --clips CLIPS (made by "
        f"`python -m stableavatar_jax.data build`) is needed, {'both are' if config.data else 'neither is'} given"
    )


def make_validate(run: Run) -> Validate:
    """What makes the validation videos."""
    from stableavatar_jax.training.parts import validation

    return validation.make_validate(run)


def export(config: TrainConfig, output: Path) -> tuple[int, Tree | None]:
    """Write the best checkpoint's weights as a model directory for `sample.py`; return their step, and their LoRA.

    The average is taken where there is one, and a LoRA is merged in. The encoders' folders are those of the model
    directory the run started from, linked. Raises Mistake where there is no checkpoint, Mistake where
    the directory holds weights already.
    """
    run = prepare(config)
    state = best_state(run)
    variables = join(state.ema or state.params, state.frozen)
    with run.on_mesh():
        params = jax.jit(merged)(variables)
    write_parts(output, config, {"dit": params})
    return int(state.step), variables.get("lora")


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
