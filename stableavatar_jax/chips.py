"""What chips can do: the ceilings of measured times, and what plans need of a chip that is not here."""

from dataclasses import dataclass

from stableavatar_jax.errors import Mistake


@dataclass(frozen=True)
class Chip:
    """One device as JAX counts them; `tflops` and `bandwidth` are its maker's figures."""

    kind: str
    """A part of JAX's `device_kind`."""
    tflops: float
    """Dense bfloat16 matrix products, TFLOP/s."""
    bandwidth: float
    """Bytes a second from and to its memory."""
    name: str = ""
    """What plans call it; empty for one that they do not know, as are the figures below."""
    memory: float = 0.0
    """Bytes of its own memory, as far as a program can take them."""
    link: float = 0.0
    """Bytes a second that a ring of neighbours gathers: both directions of one axis of a TPU's links; one of NVLink."""
    attention: float = 0.0
    """Share of `tflops` that the attention kernel reaches at heads of 128 and 32k tokens (docs/performance.md)."""


# The first whose kind fits is taken.
CHIPS = (
    Chip("TPU v4", 275.0, 1228e9, "v4", 32e9, 9e10, 0.7),
    Chip("TPU v5 lite", 197.0, 819e9, "v5e", 16.9e9, 9e10, 0.6),
    Chip("TPU v5e", 197.0, 819e9),
    Chip("TPU v5", 459.0, 2765e9, "v5p", 102e9, 1.8e11, 0.89),
    Chip("TPU v6", 918.0, 1640e9, "v6e", 33.5e9, 1.8e11, 0.36),
    Chip("TPU7x", 1153.0, 3690e9),
    Chip("GB200", 2500.0, 8000e9), Chip("B200", 2250.0, 8000e9),
    Chip("H200", 989.0, 4800e9, "h200", 1.49e11, 4.5e11, 0.57),
    Chip("H100 PCIe", 756.0, 2039e9), Chip("H100 NVL", 835.0, 3938e9),
    Chip("H100", 989.0, 3350e9, "h100", 8.5e10, 4.5e11, 0.56),
    Chip("H20", 148.0, 4000e9), Chip("A100", 312.0, 2039e9), Chip("A800", 312.0, 2039e9), Chip("L40S", 362.0, 864e9),
    Chip("L40", 181.0, 864e9), Chip("L4", 121.0, 300e9), Chip("A10G", 70.0, 600e9), Chip("RTX 4090", 165.0, 1008e9),
    Chip("RTX 5090", 210.0, 1792e9), Chip("RTX 3090", 71.0, 936e9), Chip("MI300X", 1307.0, 5300e9),
    Chip("MI250X", 192.0, 1600e9),
)  # fmt: skip
CPU = Chip("cpu", 0.05, 2e10, "cpu", 1.6e10, 1e10, 0.6)
"""A core or two, for plans alone: machines with a CPU differ too much to be held against a figure."""
PLANNED = {chip.name: chip for chip in (*CHIPS, CPU) if chip.name}


def chip_of(kind: str) -> Chip | None:
    """The chip of a `device_kind`, or None for one that is not in the table, such as a CPU."""
    return next((chip for chip in CHIPS if chip.kind.lower() in kind.lower()), None)


def chip_named(name: str) -> Chip:
    """A chip that plans know. Raises Mistake for another."""
    if name not in PLANNED:
        raise Mistake(f"chip {name!r} is unknown; there are {', '.join(PLANNED)}")
    return PLANNED[name]
