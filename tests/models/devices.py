"""Devices that are not here, as a topology names them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Named:
    platform: str
    device_kind: str


CPU, GPU, TPU = Named("cpu", "cpu"), Named("gpu", "NVIDIA H100 80GB HBM3"), Named("tpu", "TPU v5p")
