"""Weights kept in 8 bits with a scale beside each: the scale is applied where a tensor is read."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stableavatar_jax.weights.formats.tensors import LazyTensor

SCALES = ("scale_weight", "weight_scale")  # of ComfyUI's files, older and newer; LightX2V's have one for each row
DROPPED = ("scale_input", "input_scale", "comfy_quant")  # how activations were quantised, which is not done here
MARKER = "scaled_fp8"


def rescaled(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The tensors with every 8-bit weight multiplied by its scale, in float32; files without scales as they are."""
    scales = {}
    for name in tensors:
        module, _, last = name.rpartition(".")
        if last in SCALES and f"{module}.weight" in tensors:
            scales[f"{module}.weight"] = name
    if not scales:
        return dict(tensors)
    used = set(scales.values())
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if name not in used and name != MARKER and name.rpartition(".")[2] not in DROPPED
    }
    return {name: _scaled(x, tensors[scales[name]]) if name in scales else x for name, x in kept.items()}


def _scaled(weight: LazyTensor, scale: LazyTensor) -> LazyTensor:
    def load() -> np.ndarray:
        factor = scale.read().astype(np.float32)
        factor = factor.reshape(-1, *(1,) * (len(weight.shape) - 1)) if factor.size > 1 else factor.reshape(())
        return weight.read().astype(np.float32) * factor

    return replace(weight, dtype=np.dtype(np.float32), load=load, row=None)
