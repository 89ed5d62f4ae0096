"""What a plan is made for: `v5p:4x4x8`, `h100:8`, `cpu:4`, and the devices that a compiler needs of it."""

import math
import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from stableavatar_jax.chips import Chip, chip_named
from stableavatar_jax.errors import Mistake

PUBLIC = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2}
"""TPUs, and how many axes their topologies have."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Chips, and how they are joined."""

    name: str
    chip: Chip
    chips: int
    """Chips of all slices together."""
    slices: int = 1
    """Slices of a TPU that a network joins."""

    @property
    def tpu(self) -> bool:
        """Whether a TPU's compiler knows it."""
        return self.chip.name in PUBLIC

    def devices(self) -> list[Any]:
        """Devices to compile for; none of them need be here. Raises Mistake without the TPU's compiler."""
        if find_spec("libtpu") is None:
            raise Mistake(
                f"{self.name}: the compiler for a TPU is not installed; it runs on any machine, and lives best in an "
                "environment of its own: pip install -e '.[tpu]' there (`make tpu` makes one, .venv-tpu)"
            )
        from jax.experimental import topologies

        sizes = self.name.partition(":")[2].partition("*")[0]
        return topologies.get_topology_desc(
            platform="tpu", topology_name=f"{self.chip.name}:{sizes}", num_slices=self.slices
        ).devices


def parse(text: str) -> Topology:
    """A topology from `CHIP:SIZES`, of several slices `CHIP:SIZES*SLICES`. Raises Mistake."""
    kind, _, size = text.partition(":")
    chip = chip_named(kind)
    sizes, _, slices = size.partition("*")
    parts = sizes.split("x")
    axes = PUBLIC.get(kind, 1)
    if len(parts) != axes or not all(part.isdigit() and int(part) for part in (*parts, slices or "1")):
        example = {1: f"{kind}:8", 2: f"{kind}:4x4", 3: f"{kind}:2x2x1"}[axes]
        raise Mistake(f"topology {text!r}: {kind} is given as {example}{' (two slices: *2)' if axes > 1 else ''}")
    count = int(slices or 1)
    return Topology(name=text, chip=chip, chips=math.prod(map(int, parts)) * count, slices=count)


def alone() -> None:
    """Let JAX see the CPU alone, and the TPU's compiler look for no TPU; to be called before JAX makes devices."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    # Nothing runs on a TPU, so several plans at a time are no harm; a lock of libtpu's would forbid them.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
