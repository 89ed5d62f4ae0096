"""How fast a machine does each kind of a run's work: by a table of chips, or by a product measured here."""

import dataclasses
import functools
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from stableavatar_jax.chips import chip_of

SHARES = {"attention": 0.56, "products": 0.70, "decoding": 0.29, "encoding": 0.29}
"""Shares of a chip's bfloat16 rate that kinds of work reached on an H100 (docs/performance.md); encoding is taken to be
as the decoder is, convolutions above all.
"""
MEMORY_SHARE = 0.74
"""Share of a chip's memory bandwidth that norms, sums and rotations reached there."""
BELOW_PRODUCT = {"attention": 0.6, "products": 0.9, "decoding": 0.4, "encoding": 0.4}
"""Shares of the measured speed of a matrix product, for a machine that is in no table."""
CPU_DECODING = 1.1
"""The same of decoding on a CPU in float32, whose convolutions multiply less than is counted (`models/winograd.py`)."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Rates of one device."""

    name: str
    platform: str
    rates: dict[str, float]
    """Operations a second of each kind of work in `SHARES`."""
    bandwidth: float | None
    """Bytes a second through its memory; None where products alone count."""
    told: str
    """Where the rates come from."""

    def times(self, devices: int) -> "Machine":
        """So many of them, which share the transformer's rows. Devices of a CPU are the same machine."""
        if devices == 1 or self.platform == "cpu":
            return self
        faster = {kind: devices if kind in ("attention", "products") else 1 for kind in self.rates}
        shared = {kind: rate * faster[kind] for kind, rate in self.rates.items()}
        bandwidth = self.bandwidth and self.bandwidth * devices
        return dataclasses.replace(self, name=f"{devices} x {self.name}", rates=shared, bandwidth=bandwidth)


def machine(device: Any, dtype: str) -> Machine:
    """The machine of a device; a chip that is in no table is measured, in well under a second."""
    chip = chip_of(device.device_kind) if dtype != "float32" else None
    if chip is not None:
        rates = {kind: 1e12 * chip.tflops * share for kind, share in SHARES.items()}
        bandwidth, told = chip.bandwidth * MEMORY_SHARE, f"{chip.tflops:g} TFLOP/s at most"
    else:
        speed = matrix_speed(dtype)
        fewer = {"decoding": CPU_DECODING} if (device.platform, dtype) == ("cpu", "float32") else {}
        rates = {kind: speed * share for kind, share in (BELOW_PRODUCT | fewer).items()}
        bandwidth, told = None, f"{speed / 1e12:.2g} TFLOP/s measured"
    return Machine(name=device.device_kind, platform=device.platform, rates=rates, bandwidth=bandwidth, told=told)


@functools.lru_cache
def matrix_speed(dtype: str, size: int = 2048) -> float:
    """Operations a second of a matrix product on the default device, once a process, in well under a second."""
    a = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(product(a, a))
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(times)
