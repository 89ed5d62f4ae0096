"""Training the DiT, on precomputed records or on clips: its run, its data, its validation and its export."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stableavatar_jax.checkpoint import check_params
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.iterator import CheckpointableIterator, open_records
from stableavatar_jax.encoding.online import TEXT_LEN, open_clips
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import IMAGE_TOKENS, PIXELS_PER_LATENT, latent_frames
from stableavatar_jax.models.avatar import PARTS, abstract_params, boxed_params, part, settled
from stableavatar_jax.models.compute import Device
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.sharding import draw, unbox
from stableavatar_jax.training.export import Exported
from stableavatar_jax.training.logs import say
from stableavatar_jax.training.loop import Validate
from stableavatar_jax.training.memory import bytes_each
from stableavatar_jax.training.parts import validation
from stableavatar_jax.training.parts.config import TrainConfig
from stableavatar_jax.training.parts.dit_step import make_train_step
from stableavatar_jax.training.parts.networks import open_clip_set
from stableavatar_jax.training.parts.part import Part
from stableavatar_jax.training.parts.records import check_records
from stableavatar_jax.training.run import Run, assemble, load_weights
from stableavatar_jax.training.speed import step_flops
from stableavatar_jax.training.state import TrainState, average, begin, join, merged


def network(config: TrainConfig, device: Device) -> DiT:
    """The network as it is trained on such devices: computing in the config's dtype, born in float32."""
    compute = settled(
        config.model, "dit", device, config.dtype, param_dtype="float32", attention=config.attention,
        remat=config.remat,
    )  # fmt: skip
    return DiT(config.model.dit, compute)


def check(config: TrainConfig) -> None:
    """Raise Mistake where data, weights, options and model do not fit together; only metadata are read."""
    if bool(config.data) == bool(config.clips):
        raise Mistake(
            "one of --data RECORDS (made by `python -m stableavatar_jax.data precompute`) and --clips CLIPS (made by "
            f"`python -m stableavatar_jax.data build`) is needed, {'both are' if config.data else 'neither is'} given"
        )
    if config.data:
        check_records(config.data, config.model)
    else:
        say(f"clips: {len(open_clip_set(config.clips))} in {config.clips}; encoders run while training")
    if config.validate_every:
        for name in ("image", "audio"):
            path = getattr(config.validation, name)
            if path is None or not path.is_file():
                found = "is missing" if path is None else f"{path}: there is no such file"
                raise Mistake(f"--validation.{name} {found}: --validate-every needs picture and recording")
    if config.checkpoint:
        for name in PARTS if config.clips or config.validate_every else ("dit",):
            check_params(config.checkpoint / name, abstract_params(part(config.model, name)))


def prepare(config: TrainConfig, mesh: Mesh | None = None) -> Run:
    """The run of a DiT's config; on all devices unless a mesh is given."""
    model = network(config, jax.devices()[0] if mesh is None else mesh.devices.flat[0])

    def load(run: Run, folder: Path) -> Any:
        return load_weights(run, folder, "dit", run.boxed)

    return assemble(
        config, model, boxed_params(model), load=load, mesh=mesh, heads=config.model.dit.heads,
        draw=lambda key: born(model, config, key),
        begin=lambda params: begin(
            params, config.train, config.optimizer, config.lora, seed=config.seed, dtype=config.dtype
        ),
        step=make_train_step(model, config.step, config.optimizer, seed=config.seed),
        flops=lambda shapes: step_flops(model.config, shapes["latents_mean"], shapes["audio"][1], model.compute.remat),
    )  # fmt: skip


def born(model: DiT, config: TrainConfig, key: jax.Array) -> Any:
    """The weights of a run without a checkpoint, drawn from a key; to be traced."""
    params = unbox(draw(model, key))
    if config.train == "all":
        # Wan's own start: the velocity is zero, until the head has learned otherwise.
        params["head"]["kernel"] = jnp.zeros_like(params["head"]["kernel"])
        # Keys and values of sound are zero so as not to disturb a backbone that knows none; here there is none.
        attention = params["blocks"]["cross_attention"]
        attention["k_audio"], attention["v_audio"] = (jax.tree.map(jnp.copy, attention[n]) for n in ("k", "v"))
    return params


def open_data(config: TrainConfig, *, host: int = 0, hosts: int = 1) -> CheckpointableIterator:
    """This process's rows of every batch: from records, or from clips that are encoded on the way."""
    if config.data:
        return open_records(config.data, batch=config.batch, seed=config.seed, host=host, hosts=hosts)
    assert config.clips  # seen to by check
    return open_clips(
        config.clips, config.window, config.model, config.checkpoint, batch=config.batch, seed=config.seed,
        tally=Tally(config.on_bad, config.missing_masks), host=host, hosts=hosts,
    )  # fmt: skip


def make_validate(run: Run) -> Validate:
    """What makes the validation videos."""
    return validation.make_validate(run)


def exported(run: Run, state: TrainState) -> Exported:
    """The average where there is one, with a LoRA merged in, and that LoRA by itself."""
    variables = join(average(state), state.frozen)
    with run.on_mesh():
        params = jax.jit(merged)(variables)
    return Exported({"dit": params}, run.config.model, variables.get("lora"))


def abstract_batch(run: Run) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of `config.video`, its rows where the mesh wants them."""
    config: TrainConfig = run.config
    frames, height, width = config.video
    c = config.model.dit
    length = min(TEXT_LEN, c.text_len)  # training cuts prompts there
    rows, size = config.batch, (latent_frames(frames), height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT)
    place = NamedSharding(run.mesh, PartitionSpec(("data", "fsdp")))
    shaped = lambda *shape, dtype="float32": jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=place)  # noqa: E731
    latents = {name: shaped(*size, c.out_channels) for name in (
        "latents_mean", "latents_logvar", "reference_mean", "reference_logvar")}
    return latents | {
        "text": shaped(length, c.text_dim), "text_mask": shaped(length, dtype="bool"),
        "image": shaped(IMAGE_TOKENS, c.image_dim),
        "audio": shaped(2 * frames - 1, c.adapter.audio_dim), "face_mask": shaped(*size), "lip_mask": shaped(*size),
    }


def compiled_memory(run: Run) -> dict[str, float]:
    """Compile the step for `config.video` and return GiB on each device: `state`, `batch`, `temporary`, `total`."""
    with run.on_mesh():
        memory: Any = run.step.lower(run.abstract, abstract_batch(run)).compile().memory_analysis()
    state = bytes_each(run.abstract)
    gib = {
        "state": state, "batch": memory.argument_size_in_bytes - state, "temporary": memory.temp_size_in_bytes,
        "total": memory.argument_size_in_bytes + memory.temp_size_in_bytes
        + memory.output_size_in_bytes - memory.alias_size_in_bytes,
    }
    return {name: size / 2**30 for name, size in gib.items()}


DIT_PART = Part(
    names=("dit",),
    check=check,
    prepare=prepare,
    open_data=open_data,
    make_validate=make_validate,
    exported=exported,
)
