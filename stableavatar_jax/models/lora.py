"""LoRA: every linear map of the DiT outside the audio modules gets a product of two low-rank factors beside its kernel.

A LoRA is a tree shaped like the params, with `down [.., in, r]`, `up [.., r, out]` and `scale [..]` where a kernel
stands; where layers are stacked, so are the factors. Applied apart it is Flax's collection "lora":
`model.apply({"params": params, "lora": lora}, ...)`, and only the factors take gradients. Applied together it is
`merge`, whose result is a params tree like any other.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from stableavatar_jax.models.config import LoRAConfig
from stableavatar_jax.shapes import Array, Float, Key
from stableavatar_jax.trees import flatten, unflatten

Tree = dict[str, Any]



def targets(params: Mapping[str, Any]) -> dict[str, Any]:
    """{path of a linear map: its kernel} of all maps that get factors: every one without audio in its path.

    The patch embedding is a convolution in the release, and gets none.
    """
    flat = flatten(params)
    kernels = {path.removesuffix("/kernel"): leaf for path, leaf in flat.items() if path.endswith("/kernel")}
    return {path: leaf for path, leaf in kernels.items() if "audio" not in path and path != "patch_embedding"}


def init(key: Key[Array, ""], params: Mapping[str, Any], config: LoRAConfig) -> Tree:
    """A LoRA that changes nothing: `down` uniform within `in ** -0.5`, `up` zero (the release's initialisers).

    `params` may be abstract, and its leaves may carry axis names, which the factors then carry on.
    """
    flat = {}
    for path, boxed in targets(params).items():
        kernel, names = nn.unbox(boxed), getattr(boxed, "names", (None,) * len(nn.unbox(boxed).shape))
        *layers, inside, outside = kernel.shape
        bound = inside**-0.5
        draw = jax.random.fold_in(key, zlib.crc32(path.encode()))
        factors = {
            "down": (jax.random.uniform(draw, (*layers, inside, config.rank), minval=-bound, maxval=bound),
                     (*names[:-1], None)),
            "up": (jnp.zeros((*layers, config.rank, outside)), (*names[:-2], None, names[-1])),
            "scale": (jnp.full(tuple(layers), config.alpha / config.rank), names[:-2]),
        }
        for name, (value, axes) in factors.items():
            flat[f"{path}/{name}"] = boxed.replace_boxed(value).replace(names=axes) if kernel is not boxed else value
    return unflatten(flat)


def merge(params: Mapping[str, Any], lora: Mapping[str, Any], scale: float = 1.0) -> Tree:
    """The params with `scale` times the LoRA added to its kernels, in float32, returned in each kernel's dtype.

    A leaf `delta` below a parameter's path is added to that parameter as it is: files have whole differences too.
    Layers at the end that the LoRA does not speak of stay as they are.
    Raises ValueError where the LoRA has something for a parameter that the params do not have, or of another size.
    """
    flat = flatten(params)
    factors = flatten(lora)
    for name in sorted(name for name in factors if name.endswith("/delta")):
        path, delta = name.removesuffix("/delta"), jnp.asarray(factors.pop(name), jnp.float32)
        old = flat.get(path)
        delta = _for_layers(delta, path, old)
        if old is None or old.shape != delta.shape:
            have = "no such parameter" if old is None else f"{tuple(old.shape)}"
            raise ValueError(f"the LoRA changes {path} by {tuple(delta.shape)}, the model has {have}")
        flat[path] = (old + scale * delta).astype(old.dtype)
    for path in sorted({name.rpartition("/")[0] for name in factors}):
        down, up, own = (jnp.asarray(factors[f"{path}/{name}"], jnp.float32) for name in ("down", "up", "scale"))
        kernel = flat.get(f"{path}/kernel")
        down, up, own = (_for_layers(each, path, kernel) for each in (down, up, own))
        want = (*down.shape[:-1], up.shape[-1])
        if kernel is None or kernel.shape != want:
            have = "no such map" if kernel is None else f"a kernel {tuple(kernel.shape)}"
            raise ValueError(f"the LoRA has factors for {path} of shape {want}, the model has {have}")
        flat[f"{path}/kernel"] = (kernel + scale * product(down, up, own)).astype(kernel.dtype)
    return unflatten(flat)


def _for_layers(value: Any, path: str, parameter: Any) -> Any:
    """What belongs to the first layers of a stacked parameter, with zeros for the others."""
    if parameter is None or not path.startswith("blocks/") or len(value) >= len(parameter):
        return value
    return jnp.pad(value, [(0, len(parameter) - len(value)), *[(0, 0)] * (value.ndim - 1)])


def split(params: Mapping[str, Any], lora: Mapping[str, Any], scale: float = 1.0) -> Tree:
    """The params a LoRA was merged into, got back by taking it away: the inverse of `merge`, up to rounding."""
    return merge(params, lora, -scale)


def product(
    down: Float[Array, "*layers i r"], up: Float[Array, "*layers r o"], scale: Float[Array, "*layers"]
) -> Float[Array, "*layers i o"]:
    """What the factors add to a kernel `[in, out]`."""
    return scale[..., None, None] * (down @ up)
