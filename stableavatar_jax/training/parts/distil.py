"""Distillation of the DiT: the run whose frozen weights hold the teacher, which is what the student began with."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from stableavatar_jax.checkpoint import Parts, check_params
from stableavatar_jax.config import from_json
from stableavatar_jax.diffusion.guidance import Guidance
from stableavatar_jax.encoding.encoders import Encoders
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.avatar import abstract_params, boxed_params, part
from stableavatar_jax.models.flops import dit_flops
from stableavatar_jax.sampling.config import change
from stableavatar_jax.sampling.defaults import DEFAULTS_FILE, SamplingDefaults
from stableavatar_jax.sampling.inputs import NEGATIVE_PROMPT
from stableavatar_jax.training import defaults
from stableavatar_jax.training.parts import dit
from stableavatar_jax.training.parts.distil_config import DistilConfig
from stableavatar_jax.training.parts.distil_step import NEGATIVE, TEACHER, make_distil_step
from stableavatar_jax.training.parts.part import Part
from stableavatar_jax.training.run import Run, Shapes, assemble, load_weights
from stableavatar_jax.training.speed import step_flops
from stableavatar_jax.training.state import TrainState, begin


def guidance_of(config: DistilConfig) -> tuple[Guidance, str | None]:
    """The teacher's guidance, and the negative prompt where that reads one, by its `sampling.json` and the options."""
    told = defaults.read(config.checkpoint) if config.checkpoint else {}
    sampled = from_json(SamplingDefaults, told, file=(config.checkpoint or Path()) / DEFAULTS_FILE)
    given = config.teacher.given()
    negative = given.pop("negative_prompt", sampled.negative_prompt)
    guidance = change(sampled.denoising, **given).guided()
    reads = any(branch.text == "negative" for branch in guidance.branches)
    return guidance, (NEGATIVE_PROMPT if negative is None else negative) if reads else None


def check(config: DistilConfig) -> None:
    """Raise Mistake where data, weights, options and model do not fit together, or nothing can be learned."""
    guidance, negative = guidance_of(config)
    student = config.student
    if len(guidance.branches) == 1 and (not student.steps or student.substeps == 1):
        needed = "--student.substeps of 2 or more" if student.steps else "--student.steps N for fewer steps"
        raise Mistake(
            f"the teacher has no guidance, so the student knows already what it is to learn: give {needed}, or a "
            "--teacher.guidance with scales that are not 0"
        )
    if negative is not None and config.checkpoint:
        check_params(config.checkpoint / "umt5", abstract_params(part(config.model, "umt5")))
    dit.check(config)


def prepare(config: DistilConfig, mesh: Mesh | None = None) -> Run:
    """The run of a student; on all devices unless a mesh is given."""
    model = dit.network(config, jax.devices()[0] if mesh is None else mesh.devices.flat[0])
    guidance, negative = guidance_of(config)
    size = (config.model.dit.text_len, config.model.dit.text_dim)
    boxed = {"dit": boxed_params(model)}
    if negative is not None:
        boxed[NEGATIVE] = jax.ShapeDtypeStruct(size, jnp.float32)

    def draw(key: jax.Array) -> Any:
        drawn = {"dit": dit.born(model, config, key)}
        return drawn if negative is None else drawn | {NEGATIVE: jax.random.normal(key, size)}

    def load(run: Run, folder: Path) -> Any:
        loaded = {"dit": load_weights(run, folder, "dit", boxed["dit"])}
        if negative is None:
            return loaded
        text, _ = Encoders(Parts(config.model, folder), config.dtype).text([negative])
        return loaded | {NEGATIVE: text[0]}

    def flops(shapes: Shapes) -> tuple[float, float]:
        learning = step_flops(model.config, shapes["latents_mean"], shapes["audio"][1], model.compute.remat)
        rows, frames, height, width = shapes["latents_mean"][:4]
        audios = {branch.audio for branch in guidance.branches} - {"dropped"}
        branches = len(guidance.branches)
        once = dit_flops(model.config, (frames, height, width), branches=branches, audios=len(audios))
        teacher = rows * (config.student.substeps if config.student.steps else 1) * once
        return learning[0] + teacher, learning[1] + teacher

    return assemble(
        config, model, boxed, draw=draw, load=load, mesh=mesh, heads=config.model.dit.heads,
        begin=lambda weights: begin_student(weights, config),
        step=make_distil_step(model, guidance, config.student, config.step, config.optimizer, seed=config.seed),
        flops=flops,
    )  # fmt: skip


def begin_student(weights: dict[str, Any], config: DistilConfig) -> TrainState:
    """The state before the first step: the teacher is frozen, in the compute dtype, as the student was before it."""
    state = begin(weights["dit"], config.train, config.optimizer, config.lora, seed=config.seed, dtype=config.dtype)
    frozen = {name: leaf for name, leaf in weights.items() if name == NEGATIVE}
    # A copy where the dtype is the same too: the student's weights are given away at every step.
    if trained := state.params.get("params"):
        frozen[TEACHER] = jax.tree.map(lambda x: jnp.array(x, config.dtype), trained)
    return dataclasses.replace(state, frozen=state.frozen | frozen)


DISTIL_PART = Part(
    names=("dit",),
    check=check,
    prepare=prepare,
    open_data=dit.open_data,
    make_validate=dit.make_validate,
    exported=dit.exported,
)
