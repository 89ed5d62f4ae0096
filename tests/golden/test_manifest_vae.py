"""The real VAE's parameters are those of Wan2.1_VAE.pth, name for name and shape for shape."""

import flax.linen as nn
import jax
import numpy as np

from stableavatar_jax.models.config import VAEConfig
from stableavatar_jax.models.vae import VAE
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names.vae import DIFFUSERS, NAMINGS, ORIGINAL
from tests.golden import sizes

GROUPS = {"manifests"}


def blank(shape, dtype=np.float32):
    """An array of a shape, without its memory."""
    return np.broadcast_to(np.zeros((), dtype), tuple(shape))


def test_manifest(case):
    config = sizes.vae(case.info["config"])
    if config.dim == VAEConfig().dim:
        assert config == VAEConfig()
    model = VAE(config)
    abstract = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *model.example()))["params"]
    file = {name: blank(entry["shape"]) for name, entry in case.info["keys"].items()}
    naming = ORIGINAL

    assert rules.choose(NAMINGS, config, file) is naming
    _, report = rules.match(naming, config, file, abstract)
    assert report == rules.Report((), ())
    exported = rules.export(naming, config, jax.tree.map(lambda leaf: blank(leaf.shape), abstract))
    assert [(name, value.shape) for name, value in exported] == [(name, file[name].shape) for name in file]


test_manifest.cases = lambda case: case.path.match("wan21_vae*.json") and "keys" in case.info


def test_diffusers_names(case):
    """The names of diffusers are those that are stated, pair by pair, for tensors that stay as they are."""
    pairs = {pair["src"]: pair["dst"] for pair in case.info["pairs"]}
    assert {pair["op"] for pair in case.info["pairs"]} == {"identity"}
    config = VAEConfig()
    new = {rule.target: rule.source for rule in DIFFUSERS.rules(config)}
    assert {rule.source: new[rule.target] for rule in ORIGINAL.rules(config)} == pairs


test_diffusers_names.cases = "wan21_vae_to_diffusers.json"
