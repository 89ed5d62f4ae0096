"""Names of the wav2vec2 encoder's weights: transformers', with and without prefix, by old and new weight-norm names."""

from dataclasses import replace
from functools import partial

from stableavatar_jax.models.config import Wav2Vec2Config
from stableavatar_jax.weights.table import CONV1D, FLAT, KEEP, LINEAR, Naming, Rule

# Module of a layer and its PyTorch name (encoder.layers.i.).
LAYER = (
    ("q", "attention.q_proj"),
    ("k", "attention.k_proj"),
    ("v", "attention.v_proj"),
    ("out", "attention.out_proj"),
    ("norm1", "layer_norm"),
    ("up", "feed_forward.intermediate_dense"),
    ("down", "feed_forward.output_dense"),
    ("norm2", "final_layer_norm"),
)
WEIGHT_NORM = {
    "weight_g": ("weight_g", "weight_v"),
    "parametrizations": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
}


def _rules(config: Wav2Vec2Config, prefix: str, gain: str, kernel: str) -> list[Rule]:
    position, taps = "encoder.pos_conv_embed.conv", config.position_kernel
    rules = [Rule(source="masked_spec_embed", target="masked_feature")]
    for i in range(len(config.conv_dims)):
        name = f"feature_extractor.conv_layers.{i}.conv.weight"
        rules.append(Rule(source=name, target=f"conv_features/conv_{i}/kernel", op=CONV1D))
    rules += _pair("feature_extractor.conv_layers.0.layer_norm", "conv_features/norm")
    rules += _pair("feature_projection.layer_norm", "feature_norm")
    rules += _pair("feature_projection.projection", "project")
    rules += [
        Rule(source=f"{position}.{gain}", target="position_conv/gain", op=FLAT, source_shape=(1, 1, taps)),
        Rule(source=f"{position}.{kernel}", target="position_conv/kernel", op=CONV1D),
        Rule(source=f"{position}.bias", target="position_conv/bias"),
    ]
    rules += _pair("encoder.layer_norm", "norm")
    for i in range(config.layers):
        for module, name in LAYER:
            rules += _pair(f"encoder.layers.{i}.{name}", f"layers/{module}", stack=i)
    return [replace(rule, source=prefix + rule.source) for rule in rules]


def _pair(name: str, module: str, stack: int | None = None) -> list[Rule]:
    """Weight and bias of a norm or a linear layer."""
    weight, op = ("scale", KEEP) if "norm" in module else ("kernel", LINEAR)
    return [
        Rule(source=f"{name}.weight", target=f"{module}/{weight}", op=op, stack=stack),
        Rule(source=f"{name}.bias", target=f"{module}/bias", stack=stack),
    ]


NAMINGS = tuple(
    Naming(
        name=f"{'Wav2Vec2ForCTC' if prefix else 'Wav2Vec2Model'}, {weight_norm}",
        rules=partial(_rules, prefix=prefix, gain=gain, kernel=kernel),
        ignored=("lm_head.*",),
        optional=(f"{prefix}masked_spec_embed",),  # only read in training; the published file has none
    )
    for prefix in ("wav2vec2.", "")
    for weight_norm, (gain, kernel) in WEIGHT_NORM.items()
)
