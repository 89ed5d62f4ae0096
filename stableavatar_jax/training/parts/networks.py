"""What training of the small parts shares: a loss over weights by part, and clips to train on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from stableavatar_jax.checkpoint import check_params
from stableavatar_jax.compiling import quickly
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.data.kinds import expect
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.avatar import PARTS, abstract_params, boxed_params, part
from stableavatar_jax.sharding import draw, unbox
from stableavatar_jax.training.export import Exported
from stableavatar_jax.training.logs import say
from stableavatar_jax.training.parts.config import PartConfig
from stableavatar_jax.training.run import Run, assemble, load_weights
from stableavatar_jax.training.state import TrainState, average, first_state
from stableavatar_jax.training.step import Loss, gradients_of, make_step
from stableavatar_jax.weights.directory import has_part

Params = dict[str, Any]
"""Weights of each network, by its name: those of `models.avatar.PARTS`, and heads that are thrown away."""


def prepare_parts(
    config: PartConfig,
    networks: Mapping[str, Any],
    loss: Loss,
    *,
    start: Callable[[Params], Params] = lambda params: params,
) -> Run:
    """The run that trains all of these networks together. `start` changes weights just drawn."""
    boxed = {name: boxed_params(network) for name, network in networks.items()}

    def born(key: jax.Array) -> Params:
        keys = dict(zip(networks, jax.random.split(key, len(networks)), strict=True))
        return start({name: unbox(draw(network, keys[name])) for name, network in networks.items()})

    def load(run: Run, folder: Path) -> Params:
        drawn: Params = jax.jit(born, compiler_options=quickly())(jax.random.key(config.seed))
        for name in PARTS.keys() & networks.keys():
            if has_part(folder / name):
                drawn[name] = load_weights(run, folder, name, boxed[name])
            else:
                say(f"{folder} has no {name}: it begins with weights drawn from seed {config.seed}")
        return drawn

    return assemble(
        config, networks, boxed, draw=born, load=load,
        step=make_step(gradients_of(loss), config.optimizer, seed=config.seed),
        begin=lambda params: first_state(params, {}, config.optimizer),
    )  # fmt: skip


def check_parts(config: PartConfig, names: tuple[str, ...]) -> None:
    """Raise Mistake where the clips are none, or the weights to begin with do not fit the networks."""
    say(f"clips: {len(open_clip_set(config.clips))} in {config.clips}")
    if config.held_out:
        expect(config.held_out, "clips", "--held-out")
    for name in names:
        if not config.checkpoint:
            continue
        if has_part(config.checkpoint / name):
            check_params(config.checkpoint / name, abstract_params(part(config.model, name)))
        elif config.draws_frozen and not config.random_weights:
            raise Mistake(
                f"{config.checkpoint} has no {name}, and what this run does not train of it would be random; give a "
                "model directory that has it, or --random-weights for a smoke test"
            )


def exported_parts(names: tuple[str, ...]) -> Callable[[Run, TrainState], Exported]:
    """What gives the average of some parts to a model directory."""

    def exported(run: Run, state: TrainState) -> Exported:
        params = average(state)
        return Exported({name: params[name] for name in names}, run.config.model)

    return exported


def open_clip_set(folder: Path | None) -> ClipDataset:
    """The clips a run trains on. Raises Mistake."""
    if folder is None:
        raise Mistake("--clips CLIPS is missing: `python -m stableavatar_jax.data build` makes a clip data set")
    return ClipDataset(expect(folder, "clips", "--clips"))
