"""How a network is computed: what may differ from run to run and changes its results by rounding alone.

It is settled from plain values before a program is traced: nothing below asks what machine it is on.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from stableavatar_jax.errors import Mistake

Dtype = Literal["float32", "bfloat16", "float16"]
Kernel = Literal["chunked", "cudnn", "cudnn_fp8", "splash"]
Attention = Literal["auto", "chunked", "cudnn", "cudnn_fp8", "splash"]
Remat = Literal["none", "full", "attention", "names", "offload"]

HALVES = ("bfloat16", "float16")
PLATFORM = {"cudnn": "gpu", "cudnn_fp8": "gpu", "splash": "tpu"}
"""The platform that each kernel is written for; `chunked` is for all."""


@runtime_checkable
class Device(Protocol):
    """What is asked of a device; a real one, or one of a topology that is only compiled for."""

    platform: str
    device_kind: str


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How one network is computed."""

    dtype: str = "float32"
    """Dtype of the computation; softmax and norms are float32 throughout."""
    param_dtype: str = "float32"
    """Dtype in which weights are initialised."""
    platform: str = "cpu"
    """Platform of the devices that the program is made for: cpu, gpu or tpu."""
    chip: str = ""
    """Kind of these devices, as JAX names it; block sizes depend on it."""
    attention: Kernel = "chunked"
    """What computes attention over many keys (`models/attention`)."""
    remat: Remat = "none"
    """What the backward pass computes again instead of keeping: nothing; every block; all but self-attention; all but
    self-attention, cross-attention and the feed-forward's first product; the same, kept in the host's memory."""


def settle(
    device: Device, dtype: str, *, param_dtype: str | None = None, attention: Attention = "auto",
    remat: Remat = "none", head_size: int = 128,
) -> Compute:  # fmt: skip
    """How to compute on such devices; weights are in `dtype` too unless said otherwise.

    `auto` is cuDNN's attention on a GPU, splash attention on a TPU, and `chunked` elsewhere and where those cannot.
    Raises Mistake for a kernel that cannot do what is asked.
    """
    if attention == "auto":
        fast: dict[str, Kernel] = {"gpu": "cudnn", "tpu": "splash"}
        kernel = fast.get(device.platform, "chunked")
        kernel = "chunked" if _refusal(kernel, device.platform, dtype, head_size) else kernel
    else:
        kernel = attention
        if reason := _refusal(kernel, device.platform, dtype, head_size):
            raise Mistake(f"attention {kernel} {reason}; choose auto or chunked")
    if kernel == "cudnn_fp8" and remat != "none":
        raise Mistake("attention cudnn_fp8 has no backward pass; train with auto or cudnn")
    return Compute(
        dtype=dtype, param_dtype=param_dtype or dtype, platform=device.platform, chip=device.device_kind,
        attention=kernel, remat=remat,
    )  # fmt: skip


def _refusal(kernel: str, platform: str, dtype: str, head_size: int) -> str:
    """Why a kernel cannot be used, in words; empty where it can."""
    needed = PLATFORM.get(kernel, platform)
    if needed != platform:
        return f"runs on a {needed.upper()}, and the program is made for a {platform.upper()}"
    if kernel != "chunked" and dtype not in HALVES:
        return f"computes in bfloat16 or float16, and the dtype is {dtype}"
    if not takes_heads(kernel, head_size):
        return f"does not take heads of size {head_size}"
    return ""


def takes_heads(kernel: str, size: int) -> bool:
    """Whether a kernel computes heads of a size: cuDNN multiples of 8 up to 128, with fp8 of 16; splash, whole lanes
    of the TPU's vector unit.
    """
    step, most = {"cudnn": (8, 128), "cudnn_fp8": (16, 128), "splash": (128, 256)}.get(kernel, (1, size))
    return size % step == 0 and size <= most
