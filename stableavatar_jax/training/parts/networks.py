"""What training of the small parts shares: a loss over weights by part, and a step around it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from stableavatar_jax.compiling import quickly
from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.avatar import PARTS, boxed_params
from stableavatar_jax.shapes import Array, Float
from stableavatar_jax.training.config import RunConfig
from stableavatar_jax.training.run import Run, Step, assemble, load_weights
from stableavatar_jax.training.state import (
    OptimizerConfig,
    TrainState,
    advance,
    clip_limit,
    first_state,
    make_optimizer,
)
from stableavatar_jax.training.state import learning_rate as rate_of
from stableavatar_jax.weights.directory import has_part


@dataclass(frozen=True, kw_only=True)
class PartConfig(RunConfig):
    """What every run of a part other than the DiT is told."""

    FREE = RunConfig.FREE | {"held_out"}

    held_out: Path | None = None
    """Clip data set that `validate_every` measures on; without it those trained on."""
    batch: int = 8
    """Rows of a step, over all devices together."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=1e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, clip=(1.0, 1.0), clip_spikes=False,
            ema=0.999,
        )
    )  # fmt: skip


Params = dict[str, Any]
"""Weights of each network, by its name: those of `models.avatar.PARTS`, and heads that are thrown away."""
Loss = Callable[[Params, Mapping[str, Array], Array], tuple[Float[Array, ""], dict[str, Array]]]
"""`loss(params, batch, key) -> (loss, measurements)`."""

logger = logging.getLogger(__name__)


def prepare_parts(
    config: RunConfig,
    networks: Mapping[str, nn.Module],
    loss: Loss,
    *,
    start: Callable[[Params], Params] = lambda params: params,
) -> Run:
    """The run that trains all of these networks together. `start` changes weights just drawn."""
    examples = {
        name: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), network.example())
        for name, network in networks.items()
    }
    boxed = {name: boxed_params(network) for name, network in networks.items()}

    def draw(key: Array) -> Params:
        keys = dict(zip(networks, jax.random.split(key, len(networks)), strict=True))
        born = {name: network.init(keys[name], *examples[name]) for name, network in networks.items()}
        return start({name: nn.unbox(variables["params"]) for name, variables in born.items()})

    def load(run: Run, folder: Path) -> Params:
        drawn: Params = jax.jit(draw, compiler_options=quickly())(jax.random.key(config.seed))
        for name in PARTS.keys() & networks.keys():
            if has_part(folder / name):
                drawn[name] = load_weights(run, folder, name, boxed[name])
            else:
                logger.warning("%s: no such weights; those of %s are drawn from the seed", folder / name, name)
        return drawn

    return assemble(
        config, networks, boxed, draw=draw, load=load, step=make_step(loss, config.optimizer, seed=config.seed),
        begin=lambda params: first_state(params, {}, config.optimizer),
    )  # fmt: skip


def average(state: TrainState) -> Params:
    """The weights to use: the running average where there is one."""
    return state.ema or state.params


def open_clip_set(folder: Path | None) -> ClipDataset:
    """The clips a run trains on. Raises Mistake, Mistake."""
    if folder is None:
        raise Mistake("--clips CLIPS is needed: `python -m stableavatar_jax.data build` makes one")
    return ClipDataset(folder)


def make_step(loss: Loss, config: OptimizerConfig, *, seed: int) -> Step:
    """`step(state, batch) -> (state, metrics)`, a pure function; randomness is folded from the seed and the step."""
    optimizer = make_optimizer(config)

    def step(state: TrainState, batch: Mapping[str, Array]) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        (value, measured), grads = jax.value_and_grad(loss, has_aux=True)(state.params, batch, key)
        norm = optax.tree.norm(grads)
        metrics = {
            "loss": value,
            **measured,
            "gradient_norm": norm,
            "clip": clip_limit(norm, state.step, config),
            "learning_rate": jnp.asarray(rate_of(config)(state.step), jnp.float32),
        }
        return advance(state, grads, optimizer, config.ema), metrics

    return step
