"""How fast a step should be: what the chips can do, and what a step has to do."""

import math
from collections.abc import Sequence

import jax

from stableavatar_jax.chips import chip_of
from stableavatar_jax.models.audio_adapter import slot_indices
from stableavatar_jax.models.compute import Remat
from stableavatar_jax.models.config import DiTConfig
from stableavatar_jax.models.flops import train_flops


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
    chip = chip_of(devices[0].device_kind)
    peak = chip.tflops if chip else math.nan
    return {
        "samples_per_second": rows / seconds,
        "tflops_per_chip": per_chip[0],
        "mfu": per_chip[0] / peak,
        "mfu_with_recompute": per_chip[1] / peak,
    }
