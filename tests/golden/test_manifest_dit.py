"""The transformer's tables against the manifests of the real files, by names and shapes alone; and the weight rule."""

import jax
import numpy as np

from stableavatar_jax.configs.models import avatar_1b, avatar_14b
from stableavatar_jax.models.config import DiTConfig
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.weights.names.dit import BACKBONE, DIFFUSERS, DIFFUSERS_BACKBONE, NAMINGS, STABLEAVATAR
from stableavatar_jax.weights.rules import choose, match
from tests.golden import sizes
from tests.golden.cases import weight
from tests.params import abstract_params

GROUPS = {"manifests"}
PRESETS = {(preset.dit.dim, preset.dit.layers): preset.dit for preset in (avatar_1b, avatar_14b)}


class Shape(tuple):
    """A tensor of which only the shape is there."""

    @property
    def shape(self):
        return tuple(self)


def shapes_of(config):
    return jax.tree.map(lambda leaf: leaf.shape, abstract_params(DiT(config)))


def test_released_names(case):
    """The table of the manifest's own sizes; where these are a released model's, its preset has all of them."""
    keys = case.info["keys"]
    assert len(keys) == case.info["num_keys"]
    source = {key: Shape(about["shape"]) for key, about in keys.items()}
    config = sizes.dit(case.info["config"], source)
    if preset := PRESETS.get((config.dim, config.layers)):
        assert shapes_of(preset) == shapes_of(config)
    assert choose(NAMINGS, config, source) is STABLEAVATAR
    _, report = match(STABLEAVATAR, config, source, abstract_params(DiT(config)))
    assert report.ignored == report.absent == report.fresh == ()


test_released_names.cases = "stableavatar_*.json"


def test_backbone_names(case):
    """A plain backbone is recognised; what it lacks is exactly what the release starts anew."""
    source = {key: Shape(about["shape"]) for key, about in case.info["keys"].items()}
    absent = case.info["absent_relative_to_stableavatar"]
    config = sizes.backbone(case.info["config"], source, absent)
    assert choose(NAMINGS, config, source) is BACKBONE
    _, report = match(BACKBONE, config, source, abstract_params(DiT(config)))
    whole = {rule.source: rule.target for rule in STABLEAVATAR.rules(config)}
    missing = set(whole) - set(source)
    assert missing == set(absent)
    assert {whole[name] for name in missing} == set(report.fresh)


test_backbone_names.cases = "wan_i2v_base_*.json"


def test_diffusers_names(case):
    """Both tables name the same parameters, as the stated map pairs them; sound keeps the release's names."""
    pairs = case.info["map"]
    config = DiTConfig(layers=1 + max(int(name.split(".")[1]) for name in pairs if name.startswith("blocks.")))
    ours = {rule.target + str(rule.stack): rule.source for rule in DIFFUSERS.rules(config)}
    made = {rule.source: ours[rule.target + str(rule.stack)] for rule in STABLEAVATAR.rules(config)}
    assert {name: new for name, new in made.items() if "vocal" not in name} == pairs
    assert all(new == name for name, new in made.items() if "vocal" in name)
    assert {rule.source for rule in DIFFUSERS_BACKBONE.rules(config)} == set(pairs.values())


test_diffusers_names.cases = "diffusers_names_*.json"


def test_weight_rule(case):
    for row in case.info["rows"]:
        values = weight(row["key"], row["shape"], row["seed"])
        np.testing.assert_array_equal(values.reshape(-1)[:4], np.float32(row["first4"]))
        np.testing.assert_allclose(values.astype(np.float64).sum(), row["sum_float64"], rtol=1e-12, atol=1e-9)


test_weight_rule.cases = "weight_rule_check.json"
