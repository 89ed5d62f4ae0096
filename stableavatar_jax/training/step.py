"""One training step of any part: gradients become a step, and measurements are returned."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from stableavatar_jax.shapes import Array, Float, Key
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.optimizer import clip_limit, learning_rate, make_optimizer
from stableavatar_jax.training.state import TrainState, Tree, advance

Batch = Mapping[str, Array]
Metrics = dict[str, Array]
Loss = Callable[[Tree, Batch, Key[Array, ""]], tuple[Float[Array, ""], Metrics]]
"""`loss(params, batch, key) -> (loss, measurements)`."""
Gradients = Callable[[TrainState, Batch, Key[Array, ""]], tuple[Tree, Metrics]]
"""`gradients(state, batch, key) -> (gradients of state.params, measurements)`; `loss` is one of the measurements."""
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def gradients_of(loss: Loss) -> Gradients:
    """The gradients of a loss that needs the trained variables alone."""

    def gradients(state: TrainState, batch: Batch, key: Key[Array, ""]) -> tuple[Tree, Metrics]:
        (value, measured), grads = jax.value_and_grad(loss, has_aux=True)(state.params, batch, key)
        return grads, {"loss": value, **measured}

    return gradients


def make_step(gradients: Gradients, config: OptimizerConfig, *, seed: int) -> Step:
    """`step(state, batch) -> (state, metrics)`, a pure function; randomness is folded from the seed and the step.

    The caller jits it, giving the old state away (`donate_argnums=0`); it compiles once for each shape of a batch.
    """
    optimizer = make_optimizer(config)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        grads, measured = gradients(state, batch, key)
        return advance(state, grads, optimizer, config.ema), measured | told(grads, state.step, config)

    return step


def told(grads: Any, step: Array, config: OptimizerConfig) -> Metrics:
    """What is reported of every step's gradients: their norm, its limit, and the learning rate."""
    norm = optax.tree.norm(grads)
    return {
        "gradient_norm": norm,
        "clip": clip_limit(norm, step, config),
        "learning_rate": jnp.asarray(learning_rate(config)(step), jnp.float32),
    }
