"""Our configs of a case, from the sizes that the case itself states or that the shapes of its tensors show."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stableavatar_jax.convert.layouts import WAV2VEC2
from stableavatar_jax.models.config import (
    AudioAdapterConfig,
    CLIPVisionConfig,
    DiTConfig,
    UMT5Config,
    VAEConfig,
    Wav2Vec2Config,
)

ADAPTER = "vocal_projector."  # where the adapter's tensors lie in a transformer's
ADAPTER_HEADS = 8  # of the release at every width; no tensor shows them

Shapes = Mapping[str, Any]


def adapter(shapes: Shapes, heads: int = ADAPTER_HEADS) -> AudioAdapterConfig:
    """A whole adapter, from the shapes of its tensors by the names they have on their own."""
    stages = [shape for name, shape in shapes.items() if re.fullmatch(r"proj_model\.proj(_\d+)?\.weight", name)]
    return AudioAdapterConfig(
        audio_dim=stages[0][1],
        projection_dims=tuple(shape[0] for shape in stages[:-1]),
        dim=stages[-1][0],
        blocks=count(shapes, r"blocks\.(\d+)\."),
        heads=heads,
        ffn_dim=shapes["blocks.0.ffn.0.weight"][0],
    )


def adapter_block(shapes: Shapes, heads: int) -> AudioAdapterConfig:
    """One refining block."""
    inner, dim = shapes["ffn.0.weight"]
    return AudioAdapterConfig(dim=dim, heads=heads, ffn_dim=inner)


def dit(stated: Mapping[str, Any], shapes: Shapes, mask_padding: bool = False) -> DiTConfig:
    """A whole transformer: what its config states, and its adapter from the shapes of its tensors."""
    nested = {name.removeprefix(ADAPTER): shape for name, shape in shapes.items() if name.startswith(ADAPTER)}
    return DiTConfig(
        dim=stated["dim"], ffn_dim=stated["ffn_dim"], heads=stated["num_heads"], layers=stated["num_layers"],
        in_channels=stated["in_dim"], out_channels=stated["out_dim"], text_dim=stated["text_dim"],
        text_len=stated["text_len"], image_dim=shapes["img_emb.proj.1.weight"][1], time_dim=stated["freq_dim"],
        adapter=adapter(nested), mask_padding=mask_padding,
    )


def backbone(stated: Mapping[str, Any], shapes: Shapes, absent: Sequence[str]) -> DiTConfig:
    """A transformer whose tensors for audio are absent: only their names are known, so stages before the last
    projection get any width, and the audio features too."""
    stages = max(1, count(absent, rf"{ADAPTER}proj_model\.proj_(\d+)\.weight"))
    dim, inner = stated["dim"], 2 * stated["dim"]
    made = {f"{ADAPTER}proj_model.proj_{i + 1}.weight": (dim, dim) for i in range(stages)}
    made |= {f"{ADAPTER}blocks.{i}.ffn.0.weight": (inner, dim)
             for i in range(count(absent, rf"{ADAPTER}blocks\.(\d+)\."))}
    return dit(stated, {**shapes, **made})


def clip(stated: Mapping[str, Any]) -> CLIPVisionConfig:
    """The image encoder."""
    return CLIPVisionConfig(
        image_size=stated["image_size"],
        patch=stated["patch_size"],
        dim=stated["vision_dim"],
        mlp_ratio=stated["vision_mlp_ratio"],
        heads=stated["vision_heads"],
        layers=stated["vision_layers"],
        embedding_dim=stated["embed_dim"],
    )


def umt5(stated: Mapping[str, Any]) -> UMT5Config:
    """The text encoder."""
    return UMT5Config(
        vocab=stated["vocab"],
        dim=stated["dim"],
        attention_dim=stated["dim_attn"],
        ffn_dim=stated["dim_ffn"],
        heads=stated["num_heads"],
        layers=stated["num_layers"],
        buckets=stated["num_buckets"],
        shared_bias=stated["shared_pos"],
    )


def wav2vec2(stated: Mapping[str, Any]) -> Wav2Vec2Config:
    """The audio encoder."""
    given = {ours: stated[theirs] for theirs, ours in WAV2VEC2.items()}
    return Wav2Vec2Config(**{name: tuple(x) if isinstance(x, list) else x for name, x in given.items()})


def vae(stated: Mapping[str, Any]) -> VAEConfig:
    """The autoencoder; what a case does not state is Wan2.1's. `attn_scales` is empty in every one of its files."""
    assert not stated.get("attn_scales"), "attention at a resolution of its own is not in Wan2.1's autoencoder"
    ours = {"dim": "dim", "z_dim": "z_dim", "dim_mult": "dim_mult", "num_res_blocks": "num_res_blocks",
            "temperal_downsample": "temporal_downsample"}
    given = {ours[name]: value for name, value in stated.items() if name in ours}
    return VAEConfig(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def count(names: Any, pattern: str) -> int:
    """How many numbers the group of `pattern` takes among the names."""
    return len({match[1] for name in names if (match := re.match(pattern, name))})
