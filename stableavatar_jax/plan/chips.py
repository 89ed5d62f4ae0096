"""What one chip can do, as its maker publishes it: the table that plans and measured speeds are held against."""

from dataclasses import dataclass

from stableavatar_jax.errors import Mistake


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One device of JAX."""

    name: str
    kind: str
    """A part of JAX's `device_kind`, by which it is known."""
    tflops: float
    """Dense bfloat16 matrix products, TFLOP/s."""
    memory: float
    """Bytes of its own memory."""
    bandwidth: float
    """Bytes a second from and to its memory."""
    link: float
    """Bytes a second that a ring of neighbours gathers: both directions of one axis of a TPU's links; one of NVLink."""
    network: float
    """Bytes a second that it sends to chips it has no link to (another slice, another machine)."""
    attention: float
    """Share of `tflops` that the attention kernel reaches at heads of 128 and 32k tokens (docs/performance.md)."""


# Memory is what a program can take: the TPU's runtime keeps some for itself, the GPU's driver too.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip(name="v4", kind="TPU v4", tflops=275.0,
             memory=32e9, bandwidth=1.2e12, link=9e10, network=6e9, attention=0.7),
        Chip(name="v5e", kind="TPU v5 lite", tflops=197.0,
             memory=16.9e9, bandwidth=8.1e11, link=9e10, network=6e9, attention=0.6),
        Chip(name="v5p", kind="TPU v5", tflops=459.0,
             memory=102e9, bandwidth=2.76e12, link=1.8e11, network=6e9, attention=0.89),
        Chip(name="v6e", kind="TPU v6", tflops=918.0,
             memory=33.5e9, bandwidth=1.64e12, link=1.8e11, network=6e9, attention=0.36),
        Chip(name="h100", kind="H100", tflops=989.0,
             memory=8.5e10, bandwidth=3.35e12, link=4.5e11, network=5e10, attention=0.56),
        Chip(name="h200", kind="H200", tflops=989.0,
             memory=1.49e11, bandwidth=4.8e12, link=4.5e11, network=5e10, attention=0.57),
        Chip(name="cpu", kind="cpu", tflops=0.05,
             memory=1.6e10, bandwidth=2e10, link=1e10, network=1e9, attention=0.6),
    )
}  # fmt: skip


def chip_named(name: str) -> Chip:
    """A chip of the table. Raises Mistake for another."""
    if name not in CHIPS:
        raise Mistake(f"chip {name!r} is unknown; there are {', '.join(CHIPS)}")
    return CHIPS[name]
