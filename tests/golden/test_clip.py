"""The image encoder against the reference numbers."""

from functools import partial

import jax
import numpy as np

from stableavatar_jax.models.clip_vision import CLIPVision, normalise, resize_bicubic
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names.clip_vision import NAMINGS
from tests.golden import cases, sizes
from tests.params import abstract_params

GROUPS = {"clip"}


def test_clip(case):
    config = sizes.clip(case.info["config"])
    model = CLIPVision(config)
    source = cases.weights(case.info["weights"], case.info["seed"])
    params, _ = rules.load(rules.choose(NAMINGS, config, source), config, source, abstract_params(model))
    image = np.moveaxis(case.tensors["in/image"], 1, -1)
    out, inner = cases.apply(model, params, image)
    case.check("out/clip_context", out)

    resized = jax.jit(partial(resize_bicubic, size=config.image_size))(image)
    found = {
        "mid/resized": np.moveaxis(resized, -1, 1),
        "mid/normalised": np.moveaxis(normalise(resized), -1, 1),
        "mid/pre_norm": inner["pre_norm"]["__call__"][0],
    }
    if config.layers > 1:
        blocks = inner["layers"]["__call__"][0]
        found |= {f"mid/block_{i}": block for i, block in enumerate(blocks)}
    positions = params["patches"]["positions"]
    found["mid/patch_embed"] = (inner["patches"]["__call__"][0] - positions)[:, 1:]
    for name in set(found) & set(case.tensors):
        case.check(name, found[name])
