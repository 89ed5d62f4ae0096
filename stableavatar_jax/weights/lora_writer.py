"""LoRA files written under the names of any family."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import DiTConfig
from stableavatar_jax.trees import flatten
from stableavatar_jax.weights.formats.safetensors import write_safetensors
from stableavatar_jax.weights.formats.tensors import lazy
from stableavatar_jax.weights.lora import DELTA, METADATA, PATCHES, factors
from stableavatar_jax.weights.names.dit import diffusers_name
from stableavatar_jax.weights.names.lora import Family, modules, written
from stableavatar_jax.whole import whole

PATCH = DiTConfig().patch
ENDINGS = {"weight": "diff", "bias": "diff_b", "modulation": "diff_m"}


def export_lora(lora: Mapping[str, Any], family: Family = "release") -> Iterator[tuple[str, np.ndarray]]:
    """A family's names and the tensors of a LoRA tree; differences are written where the family has names for them.

    Raises Mistake where the tree holds differences and the family has none.
    """
    for module, parts in factors(lora):
        down, up, alpha = written(module, family)
        ones = (1,) * len(PATCH) if module == PATCHES else ()
        yield down, parts["down"].reshape(len(parts["down"]), -1, *PATCH) if ones else parts["down"]
        yield up, parts["up"].reshape(*parts["up"].shape, *ones)
        if family != "diffusers":  # its loader takes alphas from the metadata
            yield alpha, np.asarray(parts["scale"] * len(parts["down"]), np.float32)
    for name, value in _differences(lora):
        if family not in ("comfyui", "peft"):
            raise Mistake(f"{name}: {family} files have no name for a whole difference; write the LoRA as comfyui")
        module, _, last = name.rpartition(".")
        yield f"diffusion_model.{module}.{ENDINGS[last]}", value


def save_lora(path: Path, lora: Mapping[str, Any], family: Family = "release") -> None:
    """Write a LoRA tree as a safetensors file under a family's names."""
    tensors = {name: lazy(value) for name, value in export_lora(lora, family)}
    with whole(path) as partial:
        write_safetensors(partial, tensors, _metadata(lora) if family == "diffusers" else {"format": "pt"})


def _differences(lora: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """{tensor's name in Wan2.1's files: what is added to it}."""
    flat = {path.removesuffix(f"/{DELTA}"): x for path, x in flatten(lora).items() if path.endswith(f"/{DELTA}")}
    layers = next((len(leaf) for path, leaf in flat.items() if path.startswith("blocks/")), 0)
    for name, rule in modules(layers).rules.items():
        if rule.target in flat:
            value = np.asarray(flat[rule.target] if rule.stack is None else flat[rule.target][rule.stack], np.float32)
            value = rule.op.inverse(value)
            if rule.source_shape:
                value = value.reshape(-1, *rule.source_shape[1:])
            if value.any():
                yield name, np.ascontiguousarray(value)


def _metadata(lora: Mapping[str, Any]) -> dict[str, str]:
    """What diffusers reads beside the tensors: ranks and alphas, all of them by module."""
    parts = {diffusers_name(module): each for module, each in factors(lora)}
    ranks = {module: len(each["down"]) for module, each in parts.items()}
    alphas = {module: float(each["scale"]) * ranks[module] for module, each in parts.items()}
    about = {
        "r": max(ranks.values(), default=1),
        "lora_alpha": max(alphas.values(), default=1.0),
        "target_modules": sorted(parts),
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "lora_bias": False,
        "use_dora": False,
    }
    noted = {f"transformer.{key}": value for key, value in about.items()}
    return {"format": "pt", METADATA: json.dumps(noted)}
