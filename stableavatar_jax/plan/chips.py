"""What plans know of a chip beyond its rates (`stableavatar_jax.chips`): its memory, its links, its attention."""

from dataclasses import dataclass

from stableavatar_jax.chips import CHIPS as RATES
from stableavatar_jax.errors import Mistake


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One device of JAX."""

    name: str
    kind: str
    """The part of JAX's `device_kind` by which the table of rates knows it; none there for a CPU."""
    memory: float
    """Bytes of its own memory, as far as a program can take them."""
    link: float
    """Bytes a second that a ring of neighbours gathers: both directions of one axis of a TPU's links; one of NVLink."""
    attention: float
    """Share of `tflops` that the attention kernel reaches at heads of 128 and 32k tokens (docs/performance.md)."""

    @property
    def tflops(self) -> float:
        """Dense bfloat16 matrix products, TFLOP/s."""
        return float(RATES[self.kind].tflops) if self.kind in RATES else 0.05

    @property
    def bandwidth(self) -> float:
        """Bytes a second from and to its memory."""
        return 1e9 * RATES[self.kind].bandwidth if self.kind in RATES else 2e10


CHIPS = {
    chip.name: chip
    for chip in (
        Chip(name="v4", kind="TPU v4", memory=32e9, link=9e10, attention=0.7),
        Chip(name="v5e", kind="TPU v5 lite", memory=16.9e9, link=9e10, attention=0.6),
        Chip(name="v5p", kind="TPU v5", memory=102e9, link=1.8e11, attention=0.89),
        Chip(name="v6e", kind="TPU v6", memory=33.5e9, link=1.8e11, attention=0.36),
        Chip(name="h100", kind="H100", memory=8.5e10, link=4.5e11, attention=0.56),
        Chip(name="h200", kind="H200", memory=1.49e11, link=4.5e11, attention=0.57),
        Chip(name="cpu", kind="cpu", memory=1.6e10, link=1e10, attention=0.6),
    )
}


def chip_named(name: str) -> Chip:
    """A chip of the table. Raises Mistake for another."""
    if name not in CHIPS:
        raise Mistake(f"chip {name!r} is unknown; there are {', '.join(CHIPS)}")
    return CHIPS[name]
