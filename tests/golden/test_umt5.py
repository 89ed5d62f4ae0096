"""The text encoder against the reference numbers."""

import numpy as np

from stableavatar_jax.models.umt5 import UMT5, distance_bucket
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names.umt5 import NAMINGS
from tests.golden import cases, sizes
from tests.params import abstract_params

GROUPS = {"umt5"}


def test_umt5(case):
    if "in/relative_position" in case.tensors:
        stated = case.info["config"]
        bucket = distance_bucket(case.tensors["in/relative_position"], stated["num_buckets"], stated["max_dist"])
        case.check("out/bucket", bucket)
        return

    config = sizes.umt5(case.info["config"])
    model = UMT5(config)
    source = cases.weights(case.info["weights"], case.info["seed"])
    naming = rules.choose(NAMINGS, config, source)
    params, _ = rules.load(naming, config, source, abstract_params(model))
    ids = case.tensors["in/input_ids"]
    mask = case.tensors.get("in/attention_mask", np.ones_like(ids)).astype(bool)
    out, inner = cases.apply(model, params, ids, mask)
    case.check("out/last_hidden", out)
    if "out/valid_only" in case.tensors:
        case.check("out/valid_only", np.where(mask[..., None], out, 0))

    layers = inner["layers"]
    found = {"block_{i}": layers, "block_{i}_attn": layers["attention"], "block_{i}_ffn": layers["ffn"]}
    if not config.shared_bias:
        found["pos_bias_{i}"] = layers["position_bias"]
    for name, value in found.items():
        for i in range(config.layers):
            if "mid/" + name.format(i=i) in case.tensors:
                case.check("mid/" + name.format(i=i), value["__call__"][0][i])
    for name in [n for n in case.tensors if config.shared_bias and n.startswith("mid/pos_bias")]:
        case.check(name, inner["position_bias"]["__call__"][0])
