"""What chips can do, by their makers' figures: the ceilings that measured times are held against."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """One device as JAX counts them."""

    tflops: int
    """Dense bfloat16 TFLOP/s."""
    bandwidth: int
    """GB/s of its memory."""


# By a part of JAX's `device_kind`; the first that fits is taken.
CHIPS = {
    "TPU v4": Chip(275, 1228), "TPU v5 lite": Chip(197, 819), "TPU v5e": Chip(197, 819), "TPU v5": Chip(459, 2765),
    "TPU v6": Chip(918, 1640), "TPU7x": Chip(1153, 3690), "GB200": Chip(2500, 8000), "B200": Chip(2250, 8000),
    "H200": Chip(989, 4800), "H100 PCIe": Chip(756, 2039), "H100 NVL": Chip(835, 3938), "H100": Chip(989, 3350),
    "H20": Chip(148, 4000), "A100": Chip(312, 2039), "A800": Chip(312, 2039), "L40S": Chip(362, 864),
    "L40": Chip(181, 864), "L4": Chip(121, 300), "A10G": Chip(70, 600), "RTX 4090": Chip(165, 1008),
    "RTX 5090": Chip(210, 1792), "RTX 3090": Chip(71, 936), "MI300X": Chip(1307, 5300), "MI250X": Chip(192, 1600),
}  # fmt: skip


def chip_of(kind: str) -> Chip | None:
    """The chip of a `device_kind`, or None for one that is not in the table, such as a CPU."""
    return next((chip for name, chip in CHIPS.items() if name.lower() in kind.lower()), None)
