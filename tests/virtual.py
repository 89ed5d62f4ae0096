"""Devices for tests: several on one CPU, in a process of their own, and such as have a name alone."""

import os
from dataclasses import dataclass

ONE_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
"""Devices that share two cores may take two collectives in another order each, and then wait for ever."""


@dataclass(frozen=True)
class FakeDevice:
    """One that a mesh is planned for, and nothing runs on."""

    id: int
    platform: str = "gpu"
    process_index: int = 0
    slice_index: int = 0


def virtual(devices: int, **more: str) -> dict[str, str]:
    """The environment of a process with so many devices; `more` stands in it too."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {ONE_ORDER}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": flags, **more}
