"""LoRA files of the release: a pair of thin matrices and an alpha for every linear map, by its own key names.

A key is `lora_transformer__`, the map's PyTorch path with dots as underscores, and `.lora_down.weight (r, in)`,
`.lora_up.weight (out, r)` or `.alpha ()`; what is added to a weight is `alpha / r * up @ down`.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import DiTConfig
from stableavatar_jax.trees import flatten, unflatten
from stableavatar_jax.weights.formats.files import open_tensors
from stableavatar_jax.weights.formats.safetensors import write_safetensors
from stableavatar_jax.weights.formats.tensors import lazy
from stableavatar_jax.weights.names.dit import rules as dit_rules
from stableavatar_jax.weights.rules import Tree
from stableavatar_jax.weights.table import LINEAR, Rule
from stableavatar_jax.whole import whole

PREFIX = "lora_transformer__"
KINDS = ("lora_down.weight", "lora_up.weight", "alpha")


def load_lora(path: Path | str) -> Tree:
    """The LoRA of a file in the release's format, as `models/lora.py` has it; float32.

    Raises Mistake for a file that holds no tensors, or others.
    """
    return import_lora(open_tensors(path), str(path))


def import_lora(source: Mapping[str, Any], file: str = "LoRA") -> Tree:
    """The LoRA tree of tensors by the release's names.

    Maps that the tensors leave out in every layer are left out; those of some layers are zero in the others. Ranks may
    differ: thinner factors are widened with zeros, which changes nothing. A missing alpha is the rank.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in source.items():
        module, _, kind = name.partition(".")
        module = re.sub(r"^lora_[a-z]+__", PREFIX, module)  # Wan2.1-Fun's own training says lora_unet__
        found.setdefault(module, {})[kind] = np.asarray(tensor, np.float32)
    table = _table(1 + max((int(i) for name in found for i in re.findall(r"__blocks_(\d+)_", name)), default=-1))
    unknown = [f"{module}.{kind}" for module, kinds in found.items() for kind in kinds
               if module not in table or kind not in KINDS]
    halves = [module for module, kinds in found.items() if not set(KINDS[:2]) <= kinds.keys()]
    if unknown or halves or not found:
        what = f"tensor {unknown[0]} is of no linear map" if unknown else f"{(halves or ['it'])[0]} lacks a factor"
        raise Mistake(f"{file}: {what}; a LoRA of this model has names such as {next(iter(table))}.{KINDS[0]}")
    flat: dict[str, np.ndarray] = {}
    for path in dict.fromkeys(rule.target for name, rule in table.items() if name in found):
        members = {name: rule for name, rule in table.items() if rule.target == path}
        flat |= {f"{path.removesuffix('/kernel')}/{k}": v for k, v in _stack(members, found).items()}
    return unflatten(flat)


def export_lora(lora: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The release's names and tensors of a LoRA tree."""
    flat = flatten(lora)
    layers = next((len(leaf) for path, leaf in flat.items() if path.startswith("blocks/")), 0)
    for name, rule in _table(layers).items():
        path = rule.target.removesuffix("/kernel")
        if f"{path}/down" not in flat:
            continue
        down, up, scale = (np.asarray(flat[f"{path}/{k}"], np.float32) for k in ("down", "up", "scale"))
        if rule.stack is not None:
            down, up, scale = down[rule.stack], up[rule.stack], scale[rule.stack]
        tensors = (down.T, up.T, np.float32(scale * down.shape[-1]))
        yield from ((f"{name}.{kind}", np.array(x, order="C")) for kind, x in zip(KINDS, tensors, strict=True))


def save_lora(path: Path, lora: Mapping[str, Any]) -> None:
    """Write a LoRA tree as a safetensors file in the release's format."""
    with whole(path) as partial:
        write_safetensors(partial, {name: lazy(tensor) for name, tensor in export_lora(lora)})


def _table(layers: int) -> dict[str, Rule]:
    """The rule of every map that may have factors, by the release's name of it."""
    config = dataclasses.replace(DiTConfig(), layers=layers)
    linear = [rule for rule in dit_rules(config) if rule.op is LINEAR and "audio" not in rule.target]
    return {PREFIX + rule.source.removesuffix(".weight").replace(".", "_"): rule for rule in linear}


def _stack(members: Mapping[str, Rule], found: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Factors of one parameter, stacked over layers where the parameter is."""
    present = {name: found[name] for name in members if name in found}
    rank = max(len(kinds[KINDS[0]]) for kinds in present.values())
    some = next(iter(present.values()))
    inside, outside = some[KINDS[0]].shape[1], some[KINDS[1]].shape[0]
    down = np.zeros((len(members), inside, rank), np.float32)
    up = np.zeros((len(members), rank, outside), np.float32)
    scale = np.zeros(len(members), np.float32)
    for i, name in enumerate(members):
        if name in present:
            thin, wide, own = present[name][KINDS[0]], present[name][KINDS[1]], len(present[name][KINDS[0]])
            down[i, :, :own], up[i, :own], scale[i] = thin.T, wide.T, present[name].get(KINDS[2], np.float32(own)) / own
    if all(rule.stack is None for rule in members.values()):
        return {"down": down[0], "up": up[0], "scale": scale[0]}
    return {"down": down, "up": up, "scale": scale}
