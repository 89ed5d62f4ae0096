"""The transformer's tables against the manifests of the real files, by names and shapes alone; and the weight rule."""

import numpy as np
from stableavatar_jax.configs import avatar_1b, avatar_14b

from stableavatar_jax.models.dit import DiT
from stableavatar_jax.weights.names.dit import NAMINGS
from stableavatar_jax.weights.rules import choose, match
from tests.golden.cases import weight
from tests.params import abstract_params

GROUPS = {"manifests"}
CONFIGS = {"1b": avatar_1b.config.model.dit, "14b": avatar_14b.config.model.dit}
STABLEAVATAR, BACKBONE = NAMINGS


class Shape(tuple):
    """A tensor of which only the shape is there."""

    @property
    def shape(self):
        return tuple(self)



def test_released_names(case):
    config, keys = CONFIGS[case.path.stem.rsplit("_", 1)[1]], case.info["keys"]
    assert len(keys) == case.info["num_keys"]
    source = {key: Shape(about["shape"]) for key, about in keys.items()}
    assert choose(NAMINGS, config, source) is STABLEAVATAR
    _, report = match(STABLEAVATAR, config, source, abstract_params(DiT(config)))
    assert report.ignored == report.absent == report.fresh == ()


test_released_names.cases = "stableavatar_*.json"


def test_backbone_names(case):
    """A plain backbone is recognised; what it lacks is exactly what the release starts anew."""
    config, keys = CONFIGS[case.path.stem.rsplit("_", 1)[1]], case.info["keys"]
    source = {key: Shape(about["shape"]) for key, about in keys.items()}
    assert choose(NAMINGS, config, source) is BACKBONE
    _, report = match(BACKBONE, config, source, abstract_params(DiT(config)))
    whole = {rule.source: rule.target for rule in STABLEAVATAR.rules(config)}
    missing = set(whole) - set(source)
    if isinstance(absent := case.info["absent_relative_to_stableavatar"], list):
        assert missing == set(absent)
    assert {whole[name] for name in missing} == set(report.fresh)


test_backbone_names.cases = "wan_i2v_base_*.json"


def test_weight_rule(case):
    for row in case.info["rows"]:
        values = weight(row["key"], row["shape"], row["seed"])
        np.testing.assert_array_equal(values.reshape(-1)[:4], np.float32(row["first4"]))
        np.testing.assert_allclose(values.astype(np.float64).sum(), row["sum_float64"], rtol=1e-12, atol=1e-9)


test_weight_rule.cases = "weight_rule_check.json"
