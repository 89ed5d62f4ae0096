"""Params trees for tests: their shapes, and seeded weights."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def abstract_params(model: Any) -> Any:
    """The shapes of all of a model's parameters, without any of their values."""
    return nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *model.example())["params"])


def random_params(model: Any, seed: int = 0) -> Any:
    """Weights none of which is zero or one, drawn without running (or compiling) the model's initialisers."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        gain = path[-1].key in ("scale", "gain")
        return jnp.asarray(gain + 0.15 * rng.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, abstract_params(model))
