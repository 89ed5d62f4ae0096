"""The parts of the avatar, by name: the network, its config's place, and how its weights are named on disk."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .rules import Naming, flatten

PartName = Literal["dit", "vae", "umt5", "clip_vision", "wav2vec2"]
NAMES: tuple[PartName, ...] = get_args(PartName)


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


def config_class() -> type[Any]:
    """AvatarConfig: the config of all parts, what `config.json` of a model directory holds."""
    return _avatar().AvatarConfig


def part(name: str, avatar: Any) -> Part:
    """The part `name` in the sizes of an AvatarConfig. Its network is imported now and not before."""
    config = getattr(avatar, name)
    module = _avatar().PARTS[name](config)
    namings = importlib.import_module(f".{name}", __package__).NAMINGS
    return Part(name, config, _avatar().abstract_params(module), namings, module)


@dataclass(frozen=True, order=True)
class Guess:
    """The part a file's tensors look like: how many names its table knows."""

    count: int
    name: str
    naming: str


def guess(names: set[str], avatar: Any) -> Guess | None:
    """The part and naming that know most of these tensor names; None where none knows any."""
    known = [
        Guess(len(names & {rule.source for rule in naming.rules(getattr(avatar, name))}), name, naming.name)
        for name in NAMES
        for naming in importlib.import_module(f".{name}", __package__).NAMINGS
    ]
    best = max(known)
    return best if best.count else None


def _avatar() -> Any:
    return importlib.import_module("stableavatar_jax.models.avatar")
