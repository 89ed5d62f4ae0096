"""Convolutions over video that read no later frame, and go on from chunk to chunk."""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, repeat

from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.layers import named
from stableavatar_jax.models.winograd import combine, filtering
from stableavatar_jax.shapes import Array, Float

Form = Literal["winograd", "taps", "direct"]

# Uniform of variance 1 / (3 fan_in), as PyTorch starts its convolutions.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def convolve(
    x: Float[Array, "B T H W I"],
    kernel: Float[Array, "t h w I O"],
    *,
    before: int = 0,
    stride: int = 1,
    form: Form = "taps",
) -> Float[Array, "B U H W O"]:
    """Convolution after `before` frames of zeros, with zeros at the borders in space too.

    U = (T + before - t) // stride + 1; `stride` is that of time. Taps that would read nothing but the zeros cost
    nothing: one frame alone is one 2D convolution. `form` is how it is computed, not what: "direct" is one 3D
    convolution; "taps" adds up one 2D convolution for each tap in time, which XLA runs 2 to 8 times faster on a CPU
    (`benchmarks/vae.py`) and compiles half as fast; "winograd" does with 6 of these for four frames, or 4 for two,
    where the other has 12 and 6, and rounds a few times as much: for float32.
    """
    last = ((x.shape[1] + before - kernel.shape[0]) // stride) * stride  # where the last output's first frame lies
    unread = min(max(before - last, 0), kernel.shape[0] - 1)
    kernel, before = kernel[unread:], before - unread
    taps, height, width = kernel.shape[:3]
    space = [(height // 2, height // 2), (width // 2, width // 2)]
    if form == "direct":
        dims = ("NDHWC", "DHWIO", "NDHWC")
        return jax.lax.conv_general_dilated(x, kernel, (stride, 1, 1), [(before, 0), *space], dimension_numbers=dims)
    x = jnp.pad(x, ((0, 0), (before, 0), (0, 0), (0, 0), (0, 0)))
    if form == "winograd" and (taps, stride) == (3, 1) and (fewer := filtering(last + 1)):
        count = len(fewer.outputs)
        inputs = [x[:, k : k + last + 2 - count : count] for k in range(count + 2)]
        products = [
            convolve_frames(combine(row, inputs), combine(tap, list(kernel)), padding=space)
            for row, tap in zip(fewer.inputs, fewer.taps, strict=True)
        ]
        outputs = jnp.stack([combine(row, products) for row in fewer.outputs], axis=2)
        return rearrange(outputs, "B T n H W O -> B (T n) H W O")
    parts = (convolve_frames(x[:, k : k + last + 1 : stride], kernel[k], padding=space) for k in range(taps))
    return functools.reduce(jnp.add, parts)


def convolve_frames(
    x: Float[Array, "B T H W I"], kernel: Float[Array, "h w I O"], *, padding: list[tuple[int, int]], stride: int = 1
) -> Float[Array, "B T U V O"]:
    """2D convolution of every frame; `padding` is (before, after) for rows and columns, `stride` that of both."""
    frames = rearrange(x, "B T H W I -> (B T) H W I")
    dims = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(frames, kernel, (stride, stride), padding, dimension_numbers=dims)
    return y.reshape(*x.shape[:2], *y.shape[1:])


class CausalConv(nn.Module):
    """Convolution whose output at a frame reads that frame and those before it.

    `past` holds the last `kernel_size[0] - stride` frames the layer was given before this chunk; None starts with
    zeros. With `stride` s > 1 only every s-th output is computed, the first one s - 1 frames into the chunk. An empty
    chunk is allowed. Returns the output and the past of the next chunk. The kernel is stored `[t, h, w, in, out]`.
    """

    features: int
    kernel_size: tuple[int, int, int] = (3, 3, 3)
    stride: int = 1
    form: Form = "taps"
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W I"], past: Float[Array, "B P H W I"] | None = None
    ) -> tuple[Float[Array, "B U H W O"], Float[Array, "B Q H W I"]]:
        """Convolve a chunk of frames that follows `past`."""
        init = named(kernel_init, None, None, None, "vae_in", "vae_out")
        kernel = self.param("kernel", init, (*self.kernel_size, x.shape[-1], self.features), self.compute.param_dtype)
        bias = self.param("bias", named(nn.initializers.zeros, "vae_out"), (self.features,), self.compute.param_dtype)
        x, kernel, bias = (jnp.asarray(a, self.compute.dtype) for a in (x, kernel, bias))
        keep = self.kernel_size[0] - self.stride
        zeros = keep if past is None else 0
        if past is None:
            past = jnp.zeros((x.shape[0], keep, *x.shape[2:]), self.compute.dtype)
        if x.shape[1] == 0:
            return jnp.zeros((*x.shape[:-1], self.features), self.compute.dtype), past
        joined = jnp.concatenate([past, x], axis=1)
        y = convolve(x if zeros else joined, kernel, before=zeros, stride=self.stride, form=self.form)
        return y + bias, joined[:, joined.shape[1] - keep :]


def convolve_doubled(
    x: Float[Array, "B T H W I"], kernel: Float[Array, "3 3 I O"], *, form: Form
) -> Float[Array, "B T U V O"]:
    """3x3 convolution of frames in which every row and column stands twice, with zeros around.

    Of three neighbouring rows two are the same. "winograd" adds up their taps beforehand, so that each output reads
    2x2 places of x in place of 3x3: even rows read the row above and their own, odd ones their own and the one below.
    """
    if form != "winograd":
        x = repeat(x, "B T H W I -> B T (H 2) (W 2) I")
        return convolve_frames(x, kernel, padding=[(1, 1), (1, 1)])
    outputs = [
        convolve_frames(x, pairs, padding=[(1 - odd_row, odd_row), (1 - odd_column, odd_column)])
        for odd_row, rows in enumerate(_paired(kernel, 0))
        for odd_column, pairs in enumerate(_paired(rows, 1))
    ]
    return rearrange(outputs, "(a b) B T H W O -> B T (H a) (W b) O", a=2)


def _paired(kernel: Float[Array, "h w I O"], axis: int) -> tuple[Float[Array, "_ _ I O"], ...]:
    """Three taps as two, where an even place reads the same by the last two, and an odd one by the first two."""
    first, middle, last = jnp.split(kernel, 3, axis)
    return jnp.concatenate([first, middle + last], axis), jnp.concatenate([first + middle, last], axis)


class FrameConv(nn.Module):
    """3x3 convolution of every frame on its own; the kernel is stored `[h, w, in, out]`."""

    features: int
    padding: tuple[int, int] = (1, 1)
    """Numbers of zero rows and columns before and after the frame."""
    stride: int = 1
    doubled: bool = False
    """Whether every row and column of the frame is read twice, so that the result is twice as large."""
    form: Form = "taps"
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Float[Array, "B T H W I"]) -> Float[Array, "B T U V O"]:
        """Convolve rows and columns; frames do not mix."""
        init = named(kernel_init, None, None, "vae_in", "vae_out")
        kernel = self.param("kernel", init, (3, 3, x.shape[-1], self.features), self.compute.param_dtype)
        bias = self.param("bias", named(nn.initializers.zeros, "vae_out"), (self.features,), self.compute.param_dtype)
        x, kernel, bias = (jnp.asarray(a, self.compute.dtype) for a in (x, kernel, bias))
        if self.doubled:
            return convolve_doubled(x, kernel, form=self.form) + bias
        return convolve_frames(x, kernel, padding=[self.padding, self.padding], stride=self.stride) + bias
