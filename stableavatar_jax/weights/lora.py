"""LoRA files of every family: read into one tree, and written again under the names of the family one asks for.

What is added to a weight is `alpha / rank * up @ down`, rank being the rows of `down`; without alpha the factor is 1.
Some files hold whole differences too: of a weight (`.diff`), a bias (`.diff_b`) or a modulation (`.diff_m`).
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import DiTConfig
from stableavatar_jax.trees import flatten, unflatten
from stableavatar_jax.weights.formats.files import open_tensors
from stableavatar_jax.weights.formats.safetensors import looks_like, read_metadata
from stableavatar_jax.weights.names.dit import diffusers_name
from stableavatar_jax.weights.names.lora import Modules, family_of, layers_of, modules
from stableavatar_jax.weights.rules import Tree

PATCHES = "patch_embedding"
DELTA = "delta"  # the leaf below a parameter's path that is added to it as it is
METADATA = "lora_adapter_metadata"  # where diffusers keeps alphas: JSON, in a safetensors file's metadata

Parts = dict[str, np.ndarray]


@dataclass(frozen=True)
class LoRA:
    """What a file holds."""

    tree: Tree
    """Factors and differences as `models.lora.merge` takes them, float32."""
    family: str
    """Whose names it uses."""
    ranks: dict[str, int]
    """{module: rank}."""
    skipped: tuple[str, ...]
    """Tensors that do not fit this model, with the reason."""


def load_lora(path: Path | str) -> Tree:
    """The LoRA of a file as `models/lora.py` has it; what is skipped is named on stderr.

    Raises Mistake, by name, for what cannot be applied.
    """
    lora = read_lora(Path(path))
    for line in lora.skipped:
        print(f"{path}: skipped {line}", file=sys.stderr)
    return lora.tree


def read_lora(path: Path) -> LoRA:
    """`read_tensors` of a file."""
    tensors = open_tensors(path, unwrap=False)
    with path.open("rb") as file:
        metadata = read_metadata(path) if looks_like(file.read(512)) else {}
    return read_tensors(tensors, metadata, str(path))


def import_lora(source: Mapping[str, Any], file: str = "LoRA") -> Tree:
    """The LoRA tree of tensors by any family's names."""
    return read_tensors(source, {}, file).tree


def read_tensors(source: Mapping[str, Any], metadata: Mapping[str, str], file: str) -> LoRA:
    """The LoRA of tensors by any family's names; raises Mistake, by name, for what cannot be applied.

    Modules that the tensors leave out in every layer are left out; those of some layers are zero in the others. Ranks
    may differ: thinner factors are widened with zeros, which changes nothing.
    """
    names = list(source)
    known = modules(layers_of(names))
    found: dict[str, Parts] = {}
    for name in names:
        key = known.key(name, file)
        found.setdefault(key.module, {})[key.kind] = np.asarray(source[name], np.float32)
    skipped = [f"{PATCHES}: {reason}" for reason in [_misfit(found.get(PATCHES, {}))] if reason]
    if skipped:
        del found[PATCHES]
    for module, parts in found.items():
        if ("down" in parts) != ("up" in parts) or set(parts) <= {"alpha"}:
            raise Mistake(f"{file}: {module} lacks a factor; the file is not whole, export it again")
        if "down" in parts and len(parts["down"]) != parts["up"].shape[1]:
            found_ranks = f"{len(parts['down'])} and {parts['up'].shape[1]}"
            raise Mistake(f"{file}: the factors of {module} have ranks {found_ranks}; export the file again")
        parts["scale"] = np.asarray(_scale(module, parts, _adapter(metadata)), np.float32)
    if not found and not skipped:
        raise Mistake(f"{file}: it holds no LoRA; check that it is the right file")
    ranks = {module: len(parts["down"]) for module, parts in found.items() if "down" in parts}
    tree = unflatten({**_factors(known, found), **_deltas(known, found, file)})
    return LoRA(tree, family_of(names), ranks, tuple(skipped))


def _misfit(parts: Mapping[str, np.ndarray]) -> str | None:
    """Why factors of the patch embedding do not fit: those of text-to-video models have fewer input channels."""
    want = DiTConfig().in_channels
    for kind in ("down", "diff"):
        shape = parts[kind].shape if kind in parts else (0, want)
        if shape[1] != want:
            return f"it has {shape[1]} input channels, this model has {want}"
    return None


def _adapter(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What diffusers notes about the transformer's LoRA; empty where it notes nothing."""
    try:
        held = json.loads(metadata.get(METADATA, "{}"))
        return {key.removeprefix("transformer."): value for key, value in held.items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def _scale(module: str, parts: Mapping[str, np.ndarray], adapter: Mapping[str, Any]) -> float:
    """Alpha over rank: alpha from the file's tensor, else from its metadata, else the rank."""
    if "down" not in parts:
        return 1.0
    rank = len(parts["down"])
    if "alpha" in parts:
        return float(parts["alpha"].reshape(-1)[0]) / rank
    name = diffusers_name(module)
    for pattern, alpha in (adapter.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return float(alpha) / rank
    return float(adapter.get("lora_alpha", rank)) / rank


def _factors(known: Modules, found: Mapping[str, Parts]) -> dict[str, np.ndarray]:
    """{path of a map / down, up or scale: factor}, stacked where the map's layers are."""
    maps: dict[str, dict[int | None, Parts]] = {}
    for module, parts in found.items():
        if "down" in parts:
            rule = known.rules[f"{module}.weight"]
            maps.setdefault(rule.target.removesuffix("/kernel"), {})[rule.stack] = parts
    flat: dict[str, np.ndarray] = {}
    for path, layers in maps.items():
        count = 1 if None in layers else _count(known, f"{path}/kernel")
        some = next(iter(layers.values()))
        rank = max(len(parts["down"]) for parts in layers.values())
        down = np.zeros((count, some["down"][0].size, rank), np.float32)
        up = np.zeros((count, rank, len(some["up"])), np.float32)
        scale = np.zeros(count, np.float32)
        for layer, parts in layers.items():
            i, own = layer or 0, len(parts["down"])
            down[i, :, :own], up[i, :own] = parts["down"].reshape(own, -1).T, parts["up"].reshape(-1, own).T
            scale[i] = parts["scale"]
        stacked = {"down": down, "up": up, "scale": scale}
        flat |= {f"{path}/{name}": value[0] if None in layers else value for name, value in stacked.items()}
    return flat


def _deltas(known: Modules, found: Mapping[str, Parts], file: str) -> dict[str, np.ndarray]:
    """{path of a parameter / delta: what is added to it}, zero in the layers that the file leaves out."""
    flat: dict[str, np.ndarray] = {}
    for module, parts in found.items():
        for kind, parameter in (("diff", "weight"), ("diff_b", "bias"), ("diff_m", "modulation"), ("up_bias", "bias")):
            if kind not in parts:
                continue
            rule = known.rules[f"{module}.{parameter}"]
            try:
                value = rule.op.forward(parts[kind] * (parts["scale"] if kind == "up_bias" else 1))
            except ValueError:
                raise Mistake(f"{file}: {module}.{kind} has shape {parts[kind].shape}; the file is damaged") from None
            path = f"{rule.target}/{DELTA}"
            if rule.stack is None:
                flat[path] = flat.get(path, 0) + value
            else:
                whole = flat.setdefault(path, np.zeros((_count(known, rule.target), *value.shape), np.float32))
                whole[rule.stack] += value
    return flat


def _count(known: Modules, target: str) -> int:
    return sum(rule.target == target for rule in known.rules.values())


def factors(lora: Mapping[str, Any]) -> Iterator[tuple[str, Parts]]:
    """{module: down (r, in), up (out, r), scale} of a LoRA tree, module by module as files have them.

    Layers without factors, and what a thinner factor was widened with, are left out.
    """
    flat = flatten(lora)
    layers = next((len(leaf) for path, leaf in flat.items() if path.startswith("blocks/")), 0)
    for name, rule in modules(layers).rules.items():
        path = rule.target.removesuffix("/kernel")
        if not rule.target.endswith("/kernel") or f"{path}/down" not in flat:
            continue
        down, up, scale = (np.asarray(flat[f"{path}/{k}"], np.float32) for k in ("down", "up", "scale"))
        if rule.stack is not None:
            down, up, scale = down[rule.stack], up[rule.stack], scale[rule.stack]
        used = np.flatnonzero(down.any(0) | up.any(1))
        if used.size:
            own = used[-1] + 1
            thin, wide = np.ascontiguousarray(down[:, :own].T), np.ascontiguousarray(up[:own].T)
            yield name.removesuffix(".weight"), {"down": thin, "up": wide, "scale": scale}
