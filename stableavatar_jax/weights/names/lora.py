"""Names in LoRA files of every family: which module of the transformer a tensor belongs to, and what it is of it.

A key is a prefix, a module and a suffix. Prefixes and suffixes differ between programs; a module is named as in
Wan2.1's files or as in diffusers, with dots or with underscores for them, which the known modules' names resolve.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import DiTConfig
from stableavatar_jax.weights.names.dit import diffusers_name, is_of_sound
from stableavatar_jax.weights.names.dit import rules as dit_rules
from stableavatar_jax.weights.table import Rule

Family = Literal["comfyui", "peft", "diffusers", "kohya", "release"]
Kind = Literal["down", "up", "alpha", "up_bias", "diff", "diff_b", "diff_m"]

SUFFIXES: dict[str, Kind] = {
    ".lora_down.weight": "down", ".lora_up.weight": "up",
    ".lora_A.weight": "down", ".lora_B.weight": "up",
    ".lora_A.default.weight": "down", ".lora_B.default.weight": "up",
    ".lora_linear_layer.down.weight": "down", ".lora_linear_layer.up.weight": "up",
    ".lora.down.weight": "down", ".lora.up.weight": "up",
    "_lora.down.weight": "down", "_lora.up.weight": "up",
    ".lora_B.bias": "up_bias", ".lora_B.default.bias": "up_bias",
    ".alpha": "alpha", ".diff": "diff", ".diff_b": "diff_b", ".diff_m": "diff_m",
}  # fmt: skip
PREFIX = re.compile(
    r"^(base_model\.model\.|model\.diffusion_model\.|diffusion_model\.|pipe\.dit\.|transformer\.|"
    r"lora_(unet|transformer)__?|lycoris_|model\.)+"
)
REFUSED = {"dora_scale": "DoRA", "lokr_": "LoKr", "hada_": "LoHa", "lora_mid": "a LoRA of three factors"}
PARAMETER = {"down": ".weight", "up": ".weight", "alpha": ".weight", "up_bias": ".bias", "diff": ".weight",
             "diff_b": ".bias", "diff_m": ".modulation"}  # fmt: skip


@dataclass(frozen=True)
class Key:
    """A tensor of a LoRA file."""

    module: str
    """The module it belongs to, by its name in Wan2.1's files."""
    kind: Kind


@dataclass(frozen=True)
class Modules:
    """The modules of a transformer with so many layers, by every name they may have."""

    named: dict[str, str]
    """{a name: the name in Wan2.1's files}."""
    rules: dict[str, Rule]
    """{tensor's name in Wan2.1's files: its rule}, sound left out."""

    def key(self, name: str, file: str) -> Key:
        """What a tensor's name means; raises Mistake, which names it, where it is unknown or cannot be applied."""
        for mark, method in REFUSED.items():
            if mark in name.rpartition(".")[2] or f".{mark}" in name:
                raise Mistake(f"{file}: tensor {name} is of {method}, which is not applied here; give a plain LoRA")
        suffix = max((s for s in SUFFIXES if name.endswith(s)), key=len, default=None)
        module = self.named.get(PREFIX.sub("", name.removesuffix(suffix))) if suffix else None
        if suffix is None or module is None or module + PARAMETER[SUFFIXES[suffix]] not in self.rules:
            known = "diffusion_model.blocks.0.self_attn.q.lora_down.weight"
            raise Mistake(f"{file}: tensor {name} is of no module of the model; LoRA files have names such as {known}")
        return Key(module, SUFFIXES[suffix])


def modules(layers: int) -> Modules:
    """All modules that a LoRA may change in a transformer with so many layers."""
    table = dit_rules(replace(DiTConfig(), layers=layers))
    rules = {rule.source: rule for rule in table if not is_of_sound(rule.source)}
    names = dict.fromkeys(name.rpartition(".")[0] for name in rules)
    named: dict[str, str] = {}
    for module in names:
        for spelt in (module, diffusers_name(module)):
            named |= {spelt: module, spelt.replace(".", "_"): module}
    return Modules(named, rules)


def is_lora(names: Iterable[str]) -> bool:
    """Whether a file's names are those of a LoRA."""
    names = list(names)
    marks = [suffix for suffix in SUFFIXES if suffix != ".alpha"]
    return bool(names) and any(name.endswith(tuple(marks)) or any(mark in name for mark in REFUSED) for name in names)


def layers_of(names: list[str]) -> int:
    """How many layers the names of a file speak of."""
    return 1 + max((int(n) for name in names for n in re.findall(r"blocks[._](\d+)[._]", name)), default=-1)


def family_of(names: list[str]) -> str:
    """The programs that write such names."""
    first = next((name for name in names if name.partition(".")[0].startswith(("lora_", "lycoris_"))), None)
    if first:
        if first.startswith("lora_transformer__"):
            return "StableAvatar"
        return "VideoX-Fun" if first.startswith("lora_unet__") else "kohya, musubi-tuner"
    if any(".attn1." in name or "condition_embedder" in name for name in names):
        return "diffusers"
    return "PEFT within ComfyUI" if any(".lora_A." in name for name in names) else "ComfyUI"


def written(module: str, family: Family) -> tuple[str, str, str]:
    """The names of a module's two factors and of its alpha in a family's files."""
    match family:
        case "release":
            stem = "lora_transformer__" + module.replace(".", "_")
        case "kohya":
            stem = "lora_unet_" + module.replace(".", "_")
        case "diffusers":
            stem = "transformer." + diffusers_name(module)
        case _:
            stem = "diffusion_model." + module
    down, up = ("lora_A", "lora_B") if family in ("peft", "diffusers") else ("lora_down", "lora_up")
    return f"{stem}.{down}.weight", f"{stem}.{up}.weight", f"{stem}.alpha"
