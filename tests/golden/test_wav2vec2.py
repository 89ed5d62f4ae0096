"""The audio encoder against the reference numbers."""

import flax.linen as nn
import numpy as np
from transformers import Wav2Vec2FeatureExtractor

from stableavatar_jax.models.config import Wav2Vec2Config
from stableavatar_jax.models.wav2vec2 import Wav2Vec2
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names.wav2vec2 import NAMINGS
from tests.golden import cases, sizes
from tests.params import abstract_params

GROUPS = {"wav2vec2"}


def test_wav2vec2(case):
    if "samples_to_frames" in case.info:
        stated = case.info.get("full_config")  # the table of the real sizes has none
        config = sizes.wav2vec2(stated) if stated else Wav2Vec2Config()
        for samples, frames in case.info["samples_to_frames"].items():
            assert config.output_length(int(samples)) == frames
        return

    config = sizes.wav2vec2(case.info["full_config"])
    model = Wav2Vec2(config)
    source = cases.weights(case.info["weights"], case.info["seed"])
    params, _ = rules.load(rules.choose(NAMINGS, config, source), config, source, abstract_params(model))

    extract = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    samples = extract(case.tensors["in/audio"], sampling_rate=16000, return_tensors="np")["input_values"]
    case.check("mid/input_values", samples)
    out, inner = cases.apply(model, params, samples)
    case.check("out/last_hidden_state", out)

    layers = inner["layers"]["__call__"][0]
    found = {
        "conv_features": inner["conv_features"]["__call__"][0],
        "extract_features": inner["feature_norm"]["__call__"][0],
        "projected": inner["project"]["__call__"][0],
        "pos_conv": inner["position_conv"]["__call__"][0],
        "hidden_0": inner["norm"]["__call__"][0],
        **{f"hidden_{i + 1}": layers[i] for i in range(config.layers)},
    }
    for name in found:
        if f"mid/{name}" in case.tensors:
            case.check(f"mid/{name}", found[name])
    for i in range(len(config.conv_dims)):
        if f"mid/conv_layer_{i}" in case.tensors:
            conv = inner["conv_features"]["norm" if i == 0 else f"conv_{i}"]["__call__"][0]
            case.check(f"mid/conv_layer_{i}", np.moveaxis(nn.gelu(conv, approximate=False), -1, 1))
