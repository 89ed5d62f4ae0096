"""A toy avatar in place of the real one, so that the commands are tested in a second."""

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from stableavatar_jax.convert import importing, inspecting, options, packing, parts
from stableavatar_jax.weights.table import LINEAR, Naming, Rule


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """Sizes of one part."""

    width: int = 4
    """Features."""
    layers: int = 2
    """Stacked layers."""


@dataclass(frozen=True, kw_only=True)
class AvatarConfig:
    """All parts."""

    dit: ToyConfig = field(default_factory=ToyConfig)
    vae: ToyConfig = field(default_factory=ToyConfig)
    umt5: ToyConfig = field(default_factory=ToyConfig)
    clip_vision: ToyConfig = field(default_factory=ToyConfig)
    wav2vec2: ToyConfig = field(default_factory=ToyConfig)
    tokenizer: str = "file"


class Toy(nn.Module):
    """Stacked linear maps and a scale."""

    config: ToyConfig
    compute: Any = None

    def setup(self):
        width, layers = self.config.width, self.config.layers
        self.kernel = self.param("kernel", nn.initializers.ones, (layers, width, width))
        self.scale = self.param("scale", nn.initializers.ones, (width,))

    def __call__(self, x):
        return x

    def example(self):
        return (jax.ShapeDtypeStruct((1,), np.float32),)


def naming(part):
    def rules(config):
        stacked = [Rule(source=f"{part}.{i}.weight", target="kernel", op=LINEAR, stack=i) for i in range(config.layers)]
        return [*stacked, Rule(source=f"{part}.gamma", target="scale")]

    return Naming(name=f"{part} original", rules=rules, ignored=("position_ids",), optional=("*.gamma",))


def tensors(part, config=None):
    """A PyTorch state dict of a part."""
    config = config or ToyConfig()
    rng = np.random.default_rng(len(part))
    names = [f"{part}.{i}.weight" for i in range(config.layers)]
    weights = {name: rng.standard_normal((config.width, config.width), np.float32) for name in names}
    return weights | {f"{part}.gamma": np.ones(config.width, np.float32)}


@pytest.fixture
def toy(monkeypatch):
    """Puts the toy where the commands look for the avatar and for the tables."""
    for module in (importing, inspecting, packing):
        monkeypatch.setattr(module, "AvatarConfig", AvatarConfig)
    monkeypatch.setattr(parts, "KNOWN", {"toy": AvatarConfig()})
    monkeypatch.setattr(parts.avatar, "PARTS", dict.fromkeys(options.PARTS, Toy))
    monkeypatch.setattr(parts, "NAMINGS", {name: (naming(name),) for name in options.PARTS})
