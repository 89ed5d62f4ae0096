"""How other programs lay out a part: names of its tensors, names of its files, and the config.json they read."""

from dataclasses import dataclass
from typing import Any

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.names import clip_vision, dit, umt5, vae, wav2vec2
from stableavatar_jax.weights.table import Naming

from .options import Layout, PartName

WAV2VEC2 = {
    "hidden_size": "dim", "intermediate_size": "ffn_dim", "num_hidden_layers": "layers", "num_attention_heads": "heads",
    "conv_dim": "conv_dims", "conv_kernel": "conv_kernels", "conv_stride": "conv_strides", "layer_norm_eps": "eps",
    "num_conv_pos_embeddings": "position_kernel", "num_conv_pos_embedding_groups": "position_groups",
}  # fmt: skip
"""Sizes in transformers' Wav2Vec2Config, and in ours."""
DIFFUSERS_STEM = "diffusion_pytorch_model"
TRANSFORMERS_STEM = "model"


@dataclass(frozen=True)
class Form:
    """One layout of one part."""

    naming: Naming
    stem: str
    """Name of the weight file in a folder, before `.safetensors`."""
    about: dict[str, Any] | None = None
    """The folder's config.json, where a program reads one."""


def form(part: PartName, layout: Layout, config: Any) -> Form:
    """The layout of a part of these sizes; raises Mistake where no program lays it out so."""
    match part, layout:
        case "dit", "original":
            return Form(dit.STABLEAVATAR, DIFFUSERS_STEM)
        case "dit", "diffusers":
            return Form(dit.DIFFUSERS, DIFFUSERS_STEM, _wan_transformer(config))
        case "vae", "original":
            return Form(vae.ORIGINAL, DIFFUSERS_STEM)
        case "vae", "diffusers":
            return Form(vae.DIFFUSERS, DIFFUSERS_STEM, _wan_vae(config))
        case "umt5", "original":
            return Form(umt5.ORIGINAL, TRANSFORMERS_STEM)
        case "umt5", "transformers":
            return Form(umt5.TRANSFORMERS, TRANSFORMERS_STEM, _umt5(config))
        case "clip_vision", "original":
            return Form(clip_vision.ORIGINAL, TRANSFORMERS_STEM)
        case "clip_vision", "transformers":
            return Form(clip_vision.TRANSFORMERS, TRANSFORMERS_STEM, _clip(config))
        case "wav2vec2", "original" | "transformers":
            return Form(wav2vec2.NAMINGS[0], TRANSFORMERS_STEM, _wav2vec2(config))
    known = "diffusers" if part in ("dit", "vae") else "transformers"
    raise Mistake(f"--layout {layout}: {part} has no such layout; give original or {known}")


def _wan_transformer(c: Any) -> dict[str, Any]:
    return {
        "_class_name": "WanTransformer3DModel",
        "patch_size": list(c.patch),
        "num_attention_heads": c.heads,
        "attention_head_dim": c.dim // c.heads,
        "in_channels": c.in_channels,
        "out_channels": c.out_channels,
        "text_dim": c.text_dim,
        "freq_dim": c.time_dim,
        "ffn_dim": c.ffn_dim,
        "num_layers": c.layers,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
        "image_dim": c.image_dim,
        "added_kv_proj_dim": c.dim,
        "rope_max_seq_len": 1024,
    }


def _wan_vae(c: Any) -> dict[str, Any]:
    return {
        "_class_name": "AutoencoderKLWan",
        "base_dim": c.dim,
        "z_dim": c.z_dim,
        "dim_mult": list(c.dim_mult),
        "num_res_blocks": c.num_res_blocks,
        "attn_scales": [],
        "temperal_downsample": list(c.temporal_downsample),
        "dropout": 0.0,
        "latents_mean": list(c.latents_mean[: c.z_dim]),
        "latents_std": list(c.latents_std[: c.z_dim]),
    }


def _umt5(c: Any) -> dict[str, Any]:
    return {
        "architectures": ["UMT5EncoderModel"],
        "model_type": "umt5",
        "vocab_size": c.vocab,
        "d_model": c.dim,
        "d_kv": c.attention_dim // c.heads,
        "d_ff": c.ffn_dim,
        "num_layers": c.layers,
        "num_heads": c.heads,
        "relative_attention_num_buckets": c.buckets,
        "relative_attention_max_distance": c.max_distance,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
    }


def _clip(c: Any) -> dict[str, Any]:
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "hidden_size": c.dim,
        "intermediate_size": c.mlp_ratio * c.dim,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "image_size": c.image_size,
        "patch_size": c.patch,
        "projection_dim": c.embedding_dim,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    }


def _wav2vec2(c: Any) -> dict[str, Any]:
    return {
        "architectures": ["Wav2Vec2Model"],
        "model_type": "wav2vec2",
        **{theirs: getattr(c, ours) for theirs, ours in WAV2VEC2.items()},
        "num_feat_extract_layers": len(c.conv_dims),
        "feat_extract_norm": "group",
        "do_stable_layer_norm": False,
        "conv_bias": False,
    }
