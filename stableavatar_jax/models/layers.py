"""What every network here is made of: a linear map, two norms, a stack of blocks, with named axes on every weight."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from stableavatar_jax.models.compute import Compute, Remat
from stableavatar_jax.models.remat import policy
from stableavatar_jax.shapes import Array, Float

Axes = tuple[str | None, ...]


def named(init: Callable[..., Array], *axes: str | None) -> Callable[..., Any]:
    """The initialiser, whose parameter says what its axes mean (`sharding.py` maps names to mesh axes)."""
    return nn.with_logical_partitioning(init, axes)


class Linear(nn.Module):
    """`x @ kernel + bias` on the last axis, computed in `compute.dtype`; the kernel is stored `[in, out]`.

    `axes` names the kernel's two axes. The bias follows the second. Matrix products accumulate in float32. Where the
    collection "lora" holds factors for this map (`models/lora.py`), their product acts beside the kernel. `order` gives
    the outputs in another order than the weights' (of the last axis).
    """

    features: int
    axes: Axes = ("embed", "mlp")
    use_bias: bool = True
    compute: Compute = Compute()
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    order: Callable[[Array], Array] = lambda weights: weights

    @nn.compact
    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        """Map the last axis from its size to `features`."""
        dtype, born = self.compute.dtype, self.compute.param_dtype
        kernel = self.param("kernel", named(self.kernel_init, *self.axes), (x.shape[-1], self.features), born)
        if self.compute.remat != "none":
            # The barrier keeps XLA from converting the weights of all layers before it loops over them: a copy of all.
            kernel = gathered(jnp.asarray(jax.lax.optimization_barrier(kernel), dtype), self.axes)
        y = jnp.asarray(x, dtype) @ self.order(jnp.asarray(kernel, dtype))
        if self.has_variable("lora", "down"):
            factor: Callable[[str], Array] = lambda name: self.get_variable("lora", name)  # noqa: E731
            low = jnp.asarray(x, dtype) @ jnp.asarray(factor("down"), dtype)
            y = y + low @ self.order(jnp.asarray(factor("up") * factor("scale"), dtype))
        if not self.use_bias:
            return y
        bias = self.param("bias", named(nn.initializers.zeros, self.axes[1]), (self.features,), born)
        return y + self.order(jnp.asarray(bias, dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def gathered(kernel: Float[Array, "i o"], axes: Axes) -> Float[Array, "i o"]:
    """A weight made whole along "embed", for blocks that are made again going back.

    Where a mesh cuts weights, XLA would gather one for every use; this is once for all uses of a pass. The gradient is
    summed straight into the pieces that the weight lies in.
    """
    return nn.with_logical_constraint(kernel, tuple(None if axis == "embed" else axis for axis in axes))


def _gathered(kernel: Float[Array, "i o"], axes: Axes) -> tuple[Float[Array, "i o"], None]:
    return gathered(kernel, axes), None


def _cut(axes: Axes, _: None, gradient: Float[Array, "i o"]) -> tuple[Float[Array, "i o"]]:
    if axes[-1] == "embed":  # turned: a TPU's compiler sums into pieces of the first axis alone
        return (nn.with_logical_constraint(gradient.T, axes[::-1]).T,)
    return (nn.with_logical_constraint(gradient, axes),)


gathered.defvjp(_gathered, _cut)


class LayerNorm(nn.Module):
    """LayerNorm over the last axis in float32, returned in the input's dtype; without `affine` it has no weights."""

    eps: float = 1e-6
    affine: bool = True
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """Zero mean and unit variance along the last axis."""
        x32 = x.astype(jnp.float32)
        mean = x32.mean(-1, keepdims=True)
        variance = jnp.square(x32 - mean).mean(-1, keepdims=True)
        y = (x32 - mean) * jax.lax.rsqrt(variance + self.eps)
        if self.affine:
            y = y * self.param("scale", named(nn.initializers.ones, "norm"), (x.shape[-1],), self.compute.param_dtype)
            y = y + self.param("bias", named(nn.initializers.zeros, "norm"), (x.shape[-1],), self.compute.param_dtype)
        return y.astype(x.dtype)


class RMSNorm(nn.Module):
    """RMSNorm over the last axis in float32, returned in the input's dtype."""

    eps: float = 1e-6
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """Unit mean square along the last axis, times a learned scale."""
        x32 = x.astype(jnp.float32)
        y = x32 * jax.lax.rsqrt(jnp.square(x32).mean(-1, keepdims=True) + self.eps)
        scale = self.param("scale", named(nn.initializers.ones, "norm"), (x.shape[-1],), self.compute.param_dtype)
        return (y * scale).astype(x.dtype)


def modulate(x: Array, shift: Array | float, scale: Array | float) -> Array:
    """`x * (1 + scale) + shift` in float32, returned in x's dtype."""
    return (x.astype(jnp.float32) * (1 + scale) + shift).astype(x.dtype)


def scan_layers(
    body: Callable[[Any, Any, Any], tuple[Any, Any]], block: nn.Module, layers: int, x: Any, xs: Any = None,
    *, remat: Remat = "none",
) -> tuple[Any, Any]:  # fmt: skip
    """`body(block, x, xs of the layer) -> x, output` over a stack of blocks, each with weights of its own.

    One scan, so one compile whatever the depth. The weights lie under the block's name, stacked on a leading axis
    "layers", as are `xs` and the outputs. `remat` is what the backward pass makes again (`models/remat.py`).
    """
    if remat != "none":
        body = nn.remat(body, prevent_cse=False, policy=policy(remat))
    scan = nn.scan(
        body,
        variable_axes={"params": 0, "lora": 0, "intermediates": 0},
        split_rngs={"params": True},
        length=layers,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
    return scan(block, x, xs)


def stack(block: nn.Module, layers: int, x: Array, *constants: Array) -> Array:
    """`x` through blocks `x, *constants -> x` one after another."""
    return scan_layers(lambda block, x, _: (block(x, *constants), None), block, layers, x)[0]
