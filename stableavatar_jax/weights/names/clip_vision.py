"""Names of the CLIP image encoder's weights: those of Wan2.1's own file, and those of transformers."""

from functools import partial

from stableavatar_jax.models.config import CLIPVisionConfig
from stableavatar_jax.weights.table import CONV2D, FLAT, KEEP, LINEAR, Naming, Op, Rule

WITHOUT_BATCH = Op(lambda x: x[0], lambda x: x[None])  # (1, tokens, D) -> [tokens, D]

# Module of a layer, its name in Wan2.1's file and in transformers, whose q, k and v are apart.
LAYER = (
    ("norm1", "norm1", "layer_norm1"),
    ("qkv", "attn.to_qkv", ""),
    ("out", "attn.proj", "self_attn.out_proj"),
    ("norm2", "norm2", "layer_norm2"),
    ("up", "mlp.0", "mlp.fc1"),
    ("down", "mlp.2", "mlp.fc2"),
)
QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def _original(config: CLIPVisionConfig) -> list[Rule]:
    positions = 1 + (config.image_size // config.patch) ** 2
    return [
        Rule(source="visual.cls_embedding", target="patches/class_token", op=FLAT, source_shape=(1, 1, config.dim)),
        Rule(
            source="visual.pos_embedding",
            target="patches/positions",
            op=WITHOUT_BATCH,
            source_shape=(1, positions, config.dim),
        ),
        Rule(source="visual.patch_embedding.weight", target="patches/kernel", op=CONV2D),
        *_norm("visual.pre_norm", "pre_norm"),
        *(
            rule
            for i in range(config.layers)
            for module, name, _ in LAYER
            for rule in _layer(config, i, module, f"visual.transformer.{i}.{name}")
        ),
        *_norm("visual.post_norm", "post_norm"),
        Rule(source="visual.head", target="head/kernel"),
    ]


def _transformers(config: CLIPVisionConfig, prefix: str) -> list[Rule]:
    rules = [
        Rule(source=f"{prefix}embeddings.class_embedding", target="patches/class_token"),
        Rule(source=f"{prefix}embeddings.position_embedding.weight", target="patches/positions"),
        Rule(source=f"{prefix}embeddings.patch_embedding.weight", target="patches/kernel", op=CONV2D),
        *_norm(f"{prefix}pre_layrnorm", "pre_norm"),
    ]
    for i in range(config.layers):
        layer = f"{prefix}encoder.layers.{i}."
        for module, _, name in LAYER:
            if module != "qkv":
                rules += _layer(config, i, module, layer + name)
                continue
            for k, name in enumerate(QKV):
                rules += _layer(config, i, module, layer + name, part=(k, 3))
    return [
        *rules,
        *_norm(f"{prefix}post_layernorm", "post_norm"),
        Rule(source="visual_projection.weight", target="head/kernel", op=LINEAR),
    ]


def _norm(name: str, module: str) -> list[Rule]:
    return [
        Rule(source=f"{name}.weight", target=f"{module}/scale"),
        Rule(source=f"{name}.bias", target=f"{module}/bias"),
    ]


def _layer(
    config: CLIPVisionConfig, i: int, module: str, name: str, part: tuple[int, int] | None = None
) -> list[Rule]:
    """Weight and bias of one module of layer i; the last layer is not in the stack."""
    last = i == config.layers - 1
    target, stack = (f"last_layer/{module}", None) if last else (f"layers/{module}", i)
    weight, op = ("scale", KEEP) if module.startswith("norm") else ("kernel", LINEAR)
    return [
        Rule(source=f"{name}.weight", target=f"{target}/{weight}", op=op, stack=stack, part=part),
        Rule(source=f"{name}.bias", target=f"{target}/bias", stack=stack, part=part),
    ]


ORIGINAL = Naming(name="original", rules=_original, ignored=("textual.*", "log_scale"))
TRANSFORMERS = Naming(
    name="transformers",
    rules=partial(_transformers, prefix="vision_model."),
    ignored=("text_model.*", "text_projection.weight", "logit_scale", "vision_model.embeddings.position_ids"),
    optional=("visual_projection.weight",),  # a CLIPVisionModel ends before it
)
BARE = Naming(
    name="transformers 5, CLIPVisionModel",
    rules=partial(_transformers, prefix=""),
    ignored=("embeddings.position_ids",),
    optional=("visual_projection.weight",),
)
NAMINGS = (ORIGINAL, TRANSFORMERS, BARE)
