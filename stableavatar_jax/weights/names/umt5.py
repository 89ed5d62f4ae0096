"""Names of the UMT5 encoder's weights: those of Wan2.1's own file, and those of transformers."""

from functools import partial

from stableavatar_jax.models.config import UMT5Config
from stableavatar_jax.weights.table import KEEP, LINEAR, Naming, Rule

# Parameter of a layer, its name in layer i of Wan2.1's file (blocks.i.) and of transformers (encoder.block.i.layer.).
LAYER = (
    ("norm1/scale", "norm1.weight", "0.layer_norm.weight"),
    ("attention/q/kernel", "attn.q.weight", "0.SelfAttention.q.weight"),
    ("attention/k/kernel", "attn.k.weight", "0.SelfAttention.k.weight"),
    ("attention/v/kernel", "attn.v.weight", "0.SelfAttention.v.weight"),
    ("attention/out/kernel", "attn.o.weight", "0.SelfAttention.o.weight"),
    ("norm2/scale", "norm2.weight", "1.layer_norm.weight"),
    ("ffn/gate/kernel", "ffn.gate.0.weight", "1.DenseReluDense.wi_0.weight"),
    ("ffn/up/kernel", "ffn.fc1.weight", "1.DenseReluDense.wi_1.weight"),
    ("ffn/down/kernel", "ffn.fc2.weight", "1.DenseReluDense.wo.weight"),
)
BIAS = ("position_bias/table", "pos_embedding.embedding.weight", "0.SelfAttention.relative_attention_bias.weight")


def _rules(config: UMT5Config, *, layers: str, column: int, table: str, norm: str, shared_bias: str) -> list[Rule]:
    rules = [Rule(source=table, target="token_embedding"), Rule(source=norm, target="norm/scale")]
    if config.shared_bias:
        rules.append(Rule(source=shared_bias, target=BIAS[0]))
    for i in range(config.layers):
        for row in LAYER if config.shared_bias else (*LAYER, BIAS):
            op = LINEAR if row[0].endswith("kernel") else KEEP
            rules.append(Rule(source=layers.format(i=i) + row[column], target=f"layers/{row[0]}", op=op, stack=i))
    return rules


ORIGINAL = Naming(
    name="original",
    rules=partial(
        _rules,
        layers="blocks.{i}.",
        column=1,
        table="token_embedding.weight",
        norm="norm.weight",
        shared_bias=BIAS[1],
    ),
)
TRANSFORMERS = Naming(
    name="transformers",
    rules=partial(
        _rules,
        layers="encoder.block.{i}.layer.",
        column=2,
        table="shared.weight",
        norm="encoder.final_layer_norm.weight",
        shared_bias=f"encoder.block.0.layer.{BIAS[2]}",
    ),
    ignored=("decoder.*", "lm_head.weight"),
    tied=(("shared.weight", "encoder.embed_tokens.weight"),),
)
NAMINGS = (ORIGINAL, TRANSFORMERS)
