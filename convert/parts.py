"""The parts of the avatar, by name: the network, its config's place, and how its weights are named on disk."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.compiling import quickly
from stableavatar_jax.configs import models, tiny
from stableavatar_jax.models import avatar
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.formats.safetensors import Row
from stableavatar_jax.weights.formats.tensors import lazy
from stableavatar_jax.weights.names import clip_vision, dit, umt5, vae, wav2vec2
from stableavatar_jax.weights.rules import flatten
from stableavatar_jax.weights.table import Naming, blank

from .options import PARTS, PartName

KNOWN: dict[str, AvatarConfig] = {
    "1.3B": models.avatar_1b,
    "14B": models.avatar_14b,
    "demo": models.demo,
    "tiny": tiny.model,
}
"""Models whose sizes are built in, largest number of users first."""

STACKS = ("blocks/", "layers/")
"""Where parameters have a first axis of layers."""

NAMINGS: dict[str, tuple[Naming, ...]] = {
    "dit": dit.NAMINGS, "vae": vae.NAMINGS, "umt5": umt5.NAMINGS, "clip_vision": clip_vision.NAMINGS,
    "wav2vec2": wav2vec2.NAMINGS,
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One network of the avatar, of one size."""

    name: PartName
    config: Any
    """Its own config, the field of AvatarConfig with the part's name."""
    abstract: Mapping[str, Any]
    """Its params tree, with shapes and dtypes in place of values."""
    namings: tuple[Naming, ...]
    module: nn.Module

    def born(self, paths: tuple[str, ...], seed: int = 0) -> dict[str, np.ndarray]:
        """Fresh values of some parameters, as the network's own initialisers draw them; the others are never made."""
        return jax.device_get(self._drawing(paths)(jax.random.key(seed)))

    def rows(self, seed: int, dtype: Any) -> Iterator[Row]:
        """Fresh values of all parameters in a dtype: those that are in no layer, then a layer at a time.

        A layer is drawn as that of a network with one layer.
        """
        shapes = {path: leaf.shape for path, leaf in flatten(self.abstract).items()}
        stacked = tuple(path for path in shapes if path.startswith(STACKS))
        layers = shapes[stacked[0]][0] if stacked else 0
        # CLIP's last layer is not computed, and has no parameters
        one = _part(self.name, replace(self.config, layers=self.config.layers - layers + 1)) if stacked else self
        key = jax.random.key(seed)
        whole = tuple(path for path in shapes if path not in stacked)
        for path, value in jax.device_get(one._drawing(whole, dtype)(key)).items():
            yield path, None, value
        draw = one._drawing(stacked, dtype)
        for layer in range(layers):
            for path, value in jax.device_get(draw(jax.random.fold_in(key, layer))).items():
                yield path, layer, value[0]

    def _drawing(self, paths: tuple[str, ...], dtype: Any = None) -> Callable[[jax.Array], dict[str, jax.Array]]:
        """A compiled program from a key to some parameters."""

        def some(key: jax.Array) -> dict[str, jax.Array]:
            example = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.module.example())
            flat = flatten(nn.unbox(self.module.init(key, *example)["params"]))
            return {path: flat[path].astype(dtype or flat[path].dtype) for path in paths}

        return jax.jit(some, compiler_options=quickly())

    def shapes(self, naming: Naming) -> dict[str, tuple[int, ...]]:
        """{PyTorch name: shape} of all tensors that a naming's files hold."""
        flat = {path: lazy(blank(tuple(leaf.shape))) for path, leaf in flatten(self.abstract).items()}
        return {name: tensor.shape for name, tensor in rules.exported(naming, self.config, flat).items()}


@cache
def _part(name: PartName, config: Any) -> Part:
    network: Any = avatar.PARTS[name]
    module = network(config, avatar.FLOAT32)
    return Part(name, config, avatar.abstract_params(module), NAMINGS[name], module)


def part(name: PartName, model: Any) -> Part:
    """The part `name` in the sizes of a model."""
    return _part(name, getattr(model, name))


@dataclass(frozen=True)
class Likeness:
    """What a set of tensors is, as far as its names and shapes tell."""

    part: Part
    naming: Naming
    model: str
    """The known model that it is nearest to."""
    known: int
    """Tensors whose names the table has."""
    missing: tuple[str, ...]
    """Names that the table has and the tensors lack."""
    unknown: tuple[str, ...]
    """Names that the table has not."""
    misshapen: tuple[str, ...]
    """Known names whose tensors have another shape than the known model's."""

    @property
    def faults(self) -> int:
        """Names and shapes that do not fit."""
        return len(self.missing) + len(self.unknown) + len(self.misshapen)


def nearest(tensors: Mapping[str, Any], among: Mapping[str, Any] | None = None) -> Likeness | None:
    """The part, naming and known model that fit the tensors best (anything with a `.shape`); None if no name is known.

    Names decide first; shapes, which are costlier to know, only between sizes whose names are the same.
    """
    names, scores = set(tensors), []
    for model_name, model in (among or KNOWN).items():
        for name in PARTS:
            for naming in NAMINGS[name]:
                listed = {rule.source for rule in naming.rules(getattr(model, name))}
                if known := len(names & listed):
                    scores.append((known - len(listed - names), known, model_name, name, naming))
    if not scores:
        return None
    best = max(score[:2] for score in scores)
    likely = [
        _likeness(tensors, name, naming, model, among or KNOWN)
        for *score, model, name, naming in scores
        if tuple(score) == best
    ]
    return min(likely, key=lambda likeness: likeness.faults)


def _likeness(
    tensors: Mapping[str, Any], name: PartName, naming: Naming, model: str, among: Mapping[str, Any]
) -> Likeness:
    found = part(name, among[model])
    shapes = found.shapes(naming)
    others = {other for _, other in naming.tied}
    lacking = [n for n in shapes if n not in tensors and not rules.matches(n, naming.optional)]
    return Likeness(
        part=found,
        naming=naming,
        model=model,
        known=len(tensors.keys() & shapes.keys()),
        missing=tuple(lacking),
        unknown=tuple(
            n for n in tensors if n not in shapes and n not in others and not rules.matches(n, naming.ignored)
        ),
        misshapen=tuple(n for n in tensors.keys() & shapes.keys() if tuple(tensors[n].shape) != shapes[n]),
    )
