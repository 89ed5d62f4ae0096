"""How gradients become steps: clipping, AdamW or Muon, and the learning rate over the steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stableavatar_jax.shapes import Array, Float, Int
from stableavatar_jax.training.config import OptimizerConfig

STACKS = {"layers", "blocks"}
"""Where weights of all layers lie stacked on a leading axis (`models.layers.stack`)."""


class ClipState(NamedTuple):
    """Steps taken so far."""

    step: Int[Array, ""]


def learning_rate(config: OptimizerConfig) -> optax.Schedule:
    """`learning_rate * min(1, step / warmup)`: the first step of a warm-up has rate 0, and only fills the moments.

    From `decay_start` on it falls, to `floor` times as much.
    """

    def rate(step):
        warm = config.learning_rate * jnp.minimum(1.0, step / config.warmup if config.warmup else 1.0)
        if config.decay == "none":
            return warm
        done = jnp.clip((step - config.decay_start) / config.decay_steps, 0.0, 1.0)
        left = 1 - done if config.decay == "linear" else (1 + jnp.cos(jnp.pi * done)) / 2
        return warm * (config.floor + (1 - config.floor) * left)

    return rate


def clip_limit(norm: Float[Array, ""], step: Int[Array, ""], config: OptimizerConfig) -> Float[Array, ""]:
    """Largest gradient norm let through at a step (docs/method.md, the release's rule)."""
    limit = optax.linear_schedule(*config.clip, config.clip_steps)(step)
    spike = norm / limit
    lowered = jnp.where(spike > 5, limit / jnp.minimum(spike, 10), limit)
    return jnp.where(config.clip_spikes & (step > config.clip_steps), lowered, limit)


def clip_gradients(config: OptimizerConfig) -> optax.GradientTransformation:
    """Scale all gradients together down to the step's limit, `limit / (norm + 1e-6)` as PyTorch does."""

    def update(grads, state, params=None):
        norm = optax.tree.norm(grads)
        scale = jnp.minimum(1.0, clip_limit(norm, state.step, config) / (norm + 1e-6))
        return jax.tree.map(lambda g: g * scale, grads), ClipState(state.step + 1)

    return optax.GradientTransformation(lambda params: ClipState(jnp.zeros((), jnp.int32)), update)


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """The release's optimizer: clipping, then AdamW with decay apart from the gradient; or Muon in its place."""
    return optax.chain(clip_gradients(config), {"adamw": adamw, "muon": muon}[config.kind](config))


def adamw(config: OptimizerConfig) -> optax.GradientTransformation:
    """PyTorch's AdamW, its moments in float32, with the config's schedule."""
    return optax.chain(
        optax.scale_by_adam(*config.betas, eps=config.eps),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(learning_rate(config)),
    )


def muon(config: OptimizerConfig) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) scaled to AdamW's step (Liu et al. 2025), so that one learning rate serves both."""
    return optax.contrib.muon(
        learning_rate(config), eps=config.eps, weight_decay=config.weight_decay, adam_b1=config.betas[0],
        adam_b2=config.betas[1], consistent_rms=0.2, muon_weight_dimension_numbers=matrices,
    )


def matrices(params: Any) -> Any:
    """How Muon reads each leaf: kernels as matrices [taps * in, out], one for each stacked layer; None for others."""

    def read(path, leaf):
        names = {getattr(key, "key", None) for key in path}
        axes = range(1 if names & STACKS else 0, leaf.ndim)
        if "kernel" not in names or len(axes) < 2:
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(axes[:-1]), (axes[-1],))

    return jax.tree_util.tree_map_with_path(read, params)
