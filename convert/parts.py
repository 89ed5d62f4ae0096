"""The parts of the avatar, by name: the network, its config's place, and how its weights are named on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.models import avatar
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.weights.names import clip_vision, dit, umt5, vae, wav2vec2
from stableavatar_jax.weights.rules import Naming, flatten

PartName = Literal["dit", "vae", "umt5", "clip_vision", "wav2vec2"]
NAMES: tuple[PartName, ...] = get_args(PartName)
NAMINGS: dict[str, tuple[Naming, ...]] = {
    "dit": dit.NAMINGS, "vae": vae.NAMINGS, "umt5": umt5.NAMINGS, "clip_vision": clip_vision.NAMINGS,
    "wav2vec2": wav2vec2.NAMINGS,
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One network of the avatar, of one size."""

    name: str
    config: Any
    """Its own config, the field of AvatarConfig with the part's name."""
    abstract: Mapping[str, Any]
    """Its params tree, with shapes and dtypes in place of values."""
    namings: tuple[Naming, ...]
    module: nn.Module

    def born(self, paths: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Fresh values of some parameters, as the network's own initialisers draw them; the others are never made."""

        def some(key: jax.Array) -> dict[str, jax.Array]:
            example = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.module.example())
            flat = flatten(nn.unbox(self.module.init(key, *example)["params"]))
            return {path: flat[path] for path in paths}

        return jax.device_get(jax.jit(some)(jax.random.key(0)))


def part(name: str, model: AvatarConfig) -> Part:
    """The part `name` in the sizes of a model."""
    module = avatar.part(model, name)
    return Part(name, getattr(model, name), avatar.abstract_params(module), NAMINGS[name], module)


@dataclass(frozen=True, order=True)
class Guess:
    """The part a file's tensors look like: how many names its table knows."""

    count: int
    name: str
    naming: str


def guess(names: set[str], model: AvatarConfig) -> Guess | None:
    """The part and naming that know most of these tensor names; None where none knows any."""
    known = [
        Guess(len(names & {rule.source for rule in naming.rules(getattr(model, name))}), name, naming.name)
        for name in NAMES
        for naming in NAMINGS[name]
    ]
    best = max(known)
    return best if best.count else None
