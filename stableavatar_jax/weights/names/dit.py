"""The names of StableAvatar's transformer (and of Wan2.1's backbone, which is the same without the audio)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from stableavatar_jax.models.config import AudioAdapterConfig, DiTConfig
from stableavatar_jax.weights.table import KEEP, LINEAR, Naming, Op, Rule

SQUEEZE = Op(lambda x: x[0], lambda x: x[None])  # (1, n, D) -> [n, D]
PATCH = Op(lambda x: x.reshape(x.shape[0], -1).T, lambda x: x.T)  # (D, C, f, h, w) -> [C f h w, D]


def rules(config: DiTConfig) -> list[Rule]:
    """The table of a whole transformer."""
    c = config
    table = [
        Rule(source="patch_embedding.weight", target="patch_embedding/kernel", op=PATCH,
             source_shape=(c.dim, c.in_channels, *c.patch)),
        Rule(source="patch_embedding.bias", target="patch_embedding/bias"),
        *_linear("text_embedding.0", "text_embedding/up"),
        *_linear("text_embedding.2", "text_embedding/down"),
        *_linear("time_embedding.0", "time_embedding/up"),
        *_linear("time_embedding.2", "time_embedding/down"),
        *_linear("time_projection.1", "time_projection"),
        *_norm("img_emb.proj.0", "image_embedding/norm_in"),
        *_linear("img_emb.proj.1", "image_embedding/mlp/up"),
        *_linear("img_emb.proj.3", "image_embedding/mlp/down"),
        *_norm("img_emb.proj.4", "image_embedding/norm_out"),
        Rule(source="head.modulation", target="head_modulation", op=SQUEEZE),
        *_linear("head.head", "head"),
    ]
    for i in range(c.layers):
        table += _block(f"blocks.{i}", "blocks", i)
    return table + [_below(rule, "vocal_projector", "audio_adapter") for rule in adapter_rules(c.adapter)]


def adapter_rules(config: AudioAdapterConfig) -> list[Rule]:
    """The table of the audio adapter on its own."""
    stages = len(config.projection_dims) + 1
    table: list[Rule] = []
    for i in range(stages):
        suffix = f"_{i + 1}" if stages > 1 else ""
        table += _linear(f"proj_model.proj{suffix}", f"projection/linear_{i}", bias=False)
        table += _norm(f"proj_model.norm{suffix}", f"projection/norm_{i}")
    if config.ablation == "project":
        return table
    for i in range(config.blocks):
        table += [_below(rule, f"blocks.{i}", f"block_{i}") for rule in adapter_block_rules(config)]
    if config.ablation != "no_modulation":
        table += [Rule(source="final_head.modulation", target="head_modulation", op=SQUEEZE)]
    return [*table, *_linear("final_head.final_proj", "head")]


def adapter_block_rules(config: AudioAdapterConfig) -> list[Rule]:
    """The table of one refining block on its own."""
    table = [*_linear("ffn.0", "ffn_up"), *_linear("ffn.2", "ffn_down")]
    if config.ablation != "no_modulation":
        table += [Rule(source="modulation", target="modulation", op=SQUEEZE)]
    if config.ablation != "no_cross_attention":
        table += [*_norm("norm3", "norm_cross"), *_attention("cross_attn", "cross_attention")]
    return table


def _block(source: str, target: str, i: int) -> Iterator[Rule]:
    yield Rule(source=f"{source}.modulation", target=f"{target}/modulation", op=SQUEEZE, stack=i)
    yield from _norm(f"{source}.norm3", f"{target}/norm_cross", i)
    yield from _attention(f"{source}.self_attn", f"{target}/self_attention", i)
    yield from _attention(f"{source}.cross_attn", f"{target}/cross_attention", i)
    for ours, theirs in (("image", "img"), ("audio", "vocal")):
        for kind in ("k", "v"):
            yield from _linear(f"{source}.cross_attn.{kind}_{theirs}", f"{target}/cross_attention/{kind}_{ours}", i)
    yield Rule(source=f"{source}.cross_attn.norm_k_img.weight", target=f"{target}/cross_attention/norm_k_image/scale",
               stack=i)
    yield from _linear(f"{source}.ffn.0", f"{target}/ffn/up", i)
    yield from _linear(f"{source}.ffn.2", f"{target}/ffn/down", i)


def _attention(source: str, target: str, i: int | None = None) -> Iterator[Rule]:
    for name in ("q", "k", "v", "o"):
        yield from _linear(f"{source}.{name}", f"{target}/{name}", i)
    for name in ("norm_q", "norm_k"):
        yield Rule(source=f"{source}.{name}.weight", target=f"{target}/{name}/scale", stack=i)


def _linear(source: str, target: str, i: int | None = None, bias: bool = True) -> Iterator[Rule]:
    yield Rule(source=f"{source}.weight", target=f"{target}/kernel", op=LINEAR, stack=i)
    if bias:
        yield Rule(source=f"{source}.bias", target=f"{target}/bias", op=KEEP, stack=i)


def _norm(source: str, target: str, i: int | None = None) -> Iterator[Rule]:
    yield Rule(source=f"{source}.weight", target=f"{target}/scale", stack=i)
    yield Rule(source=f"{source}.bias", target=f"{target}/bias", stack=i)


def _below(rule: Rule, source: str, target: str) -> Rule:
    return Rule(source=f"{source}.{rule.source}", target=f"{target}/{rule.target}", op=rule.op, stack=rule.stack,
                source_shape=rule.source_shape)


# Modules by their names in diffusers' WanTransformer3DModel. Sound has none there, and keeps the release's.
RENAMED = {
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}
RENAMED_IN_BLOCKS = {
    "modulation": "scale_shift_table",
    "norm3": "norm2",
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}


def diffusers_name(module: str) -> str:
    """The name of a module (or of a bare parameter) of the backbone in diffusers; others keep theirs."""
    head, number, inner = (*module.split(".", 2), "", "")[:3]
    if head == "blocks":
        return f"blocks.{number}.{RENAMED_IN_BLOCKS.get(inner, inner)}"
    return RENAMED.get(module, module)


def is_of_sound(name: str) -> bool:
    """Whether a tensor is StableAvatar's own: of the audio adapter, or an audio key or value of a block."""
    return "vocal" in name


def diffusers_rules(config: DiTConfig) -> list[Rule]:
    """The table of a whole transformer by the names of diffusers."""
    return [replace(rule, source=_diffusers_tensor(rule.source)) for rule in rules(config)]


def _diffusers_tensor(name: str) -> str:
    module, dot, last = name.rpartition(".")
    if last not in ("weight", "bias"):
        return diffusers_name(name)
    return diffusers_name(module) + dot + last


def _backbone(table: Callable[[DiTConfig], list[Rule]], config: DiTConfig) -> list[Rule]:
    return [rule for rule in table(config) if not is_of_sound(rule.source)]


def _text_to_video(table: Callable[[DiTConfig], list[Rule]], config: DiTConfig) -> list[Rule]:
    """The backbone without what sees the picture, but for the blocks' keys and values of it, which are zero."""
    return [
        rule for rule in _backbone(table, config) if "image" not in rule.target or rule.target.split("/")[-2] in KEYS
    ]


KEYS = ("k_image", "v_image")
FRESH = ("audio_adapter/*", "blocks/cross_attention/[kv]_audio/*")
FRESH_PICTURE = (*FRESH, "image_embedding/*", "blocks/cross_attention/norm_k_image/*")

STABLEAVATAR = Naming(name="StableAvatar", rules=rules)
BACKBONE = Naming(
    name="Wan2.1 image-to-video (audio modules are initialised)", rules=partial(_backbone, rules), fresh=FRESH
)
DIFFUSERS = Naming(name="diffusers, audio modules as StableAvatar", rules=diffusers_rules)
DIFFUSERS_BACKBONE = Naming(
    name="diffusers (audio modules are initialised)", rules=partial(_backbone, diffusers_rules), fresh=FRESH
)
TEXT_TO_VIDEO = Naming(
    name="Wan2.1 text-to-video (audio and picture modules are initialised)", rules=partial(_text_to_video, rules),
    fresh=FRESH_PICTURE, optional=("blocks.*.cross_attn.[kv]_img.*",),
)  # fmt: skip
DIFFUSERS_TEXT_TO_VIDEO = Naming(
    name="diffusers text-to-video (audio and picture modules are initialised)",
    rules=partial(_text_to_video, diffusers_rules), fresh=FRESH_PICTURE, optional=("blocks.*.attn2.add_[kv]_proj.*",),
)  # fmt: skip
NAMINGS = (STABLEAVATAR, BACKBONE, TEXT_TO_VIDEO, DIFFUSERS, DIFFUSERS_BACKBONE, DIFFUSERS_TEXT_TO_VIDEO)
