"""How fast a step should be: what the chips can do, and what a step has to do."""

import math
from collections.abc import Sequence

import jax

from stableavatar_jax.models.audio_adapter import slot_indices
from stableavatar_jax.models.compute import Remat
from stableavatar_jax.models.config import DiTConfig
from stableavatar_jax.models.flops import train_flops

# Dense bfloat16 TFLOP/s of one JAX device, by a part of its `device_kind`; the first that fits is taken.
CHIPS = {
    "TPU v4": 275, "TPU v5 lite": 197, "TPU v5e": 197, "TPU v5": 459, "TPU v6": 918, "TPU7x": 1153,
    "GB200": 2500, "B200": 2250, "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H20": 148, "A100": 312,
    "A800": 312, "L40S": 362, "L40": 181, "L4": 121, "A10G": 70, "RTX 4090": 165, "RTX 5090": 210, "RTX 3090": 71,
    "MI300X": 1307, "MI250X": 192,
}  # fmt: skip


def peak_tflops(device: jax.Device) -> float | None:
    """Dense bfloat16 TFLOP/s of a device, or None for a kind that is not in the table, such as a CPU."""
    return next((float(peak) for kind, peak in CHIPS.items() if kind.lower() in device.device_kind.lower()), None)


def step_flops(
    config: DiTConfig, latents: Sequence[int], audio_tokens: int, remat: Remat
) -> tuple[float, float]:
    """Operations of a step on latents `[B F H W C]`: what learning needs, and with what remat computes again."""
    rows, frames, height, width = latents[:4]
    slot = slot_indices(audio_tokens, frames, config.adapter.context).shape[1]
    useful, executed = train_flops(config, (frames, height, width), remat=remat, slot=slot)
    return rows * useful, rows * executed


def speed(
    flops: tuple[float, float] | None, rows: int, seconds: float, devices: Sequence[jax.Device]
) -> dict[str, float]:
    """Rows a second, TFLOP/s per chip, and shares of the chips' peak (MFU; with recomputation HFU), NaN if unknown.

    Rows alone where nobody has counted a step's operations.
    """
    if flops is None:
        return {"samples_per_second": rows / seconds}
    per_chip = [f / seconds / len(devices) / 1e12 for f in flops]
    peak = peak_tflops(devices[0]) or math.nan
    return {
        "samples_per_second": rows / seconds,
        "tflops_per_chip": per_chip[0],
        "mfu": per_chip[0] / peak,
        "mfu_with_recompute": per_chip[1] / peak,
    }
