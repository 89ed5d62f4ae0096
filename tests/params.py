"""Seeded weights for tests."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.models.avatar import abstract_params

__all__ = ["abstract_params", "random_params"]


def random_params(model: Any, seed: int = 0) -> Any:
    """Weights none of which is zero or one, drawn without running (or compiling) the model's initialisers."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        gain = path[-1].key in ("scale", "gain")
        return jnp.asarray(gain + 0.15 * rng.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, abstract_params(model))
