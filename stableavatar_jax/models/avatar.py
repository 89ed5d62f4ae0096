"""All parts of a model together: what `config.json` of a model directory holds."""

import functools
from typing import Any

import flax.linen as nn
import jax

from stableavatar_jax.models.clip_vision import CLIPVision
from stableavatar_jax.models.compute import Attention, Compute, Device, Remat, settle
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.models.umt5 import UMT5
from stableavatar_jax.models.vae import VAE
from stableavatar_jax.models.wav2vec2 import Wav2Vec2

FLOAT32 = Compute()

PARTS: dict[str, type[nn.Module]] = {
    "dit": DiT,
    "vae": VAE,
    "umt5": UMT5,
    "clip_vision": CLIPVision,
    "wav2vec2": Wav2Vec2,
}


def part(config: AvatarConfig, name: str, compute: Compute = FLOAT32) -> Any:
    """The network of one part, by its name in `PARTS`."""
    network: Any = PARTS[name]
    return network(getattr(config, name), compute)


def settled(
    config: AvatarConfig, name: str, device: Device, dtype: str, *, param_dtype: str | None = None,
    attention: Attention = "auto", remat: Remat = "none",
) -> Compute:  # fmt: skip
    """How to compute a part on such devices (`compute.settle`). A kernel that is asked for by name is the
    transformer's; what the other parts' attention is computed by is settled as `auto`.
    """
    return settle(
        device, dtype, param_dtype=param_dtype, attention=attention if name == "dit" else "auto", remat=remat,
        head_size=config.dit.dim // config.dit.heads,
    )  # fmt: skip


def boxed_params(module: nn.Module) -> Any:
    """Shapes and dtypes of a network's params, with the names of their axes; nothing is allocated.

    A network is traced once, however it is computed: a run asks several times, for the machine's devices and for none.
    """
    if isinstance(compute := getattr(module, "compute", None), Compute):
        module = module.clone(compute=Compute(param_dtype=compute.param_dtype))  # nothing else matters to params
    return _boxed_params(module)


@functools.lru_cache(maxsize=64)
def _boxed_params(module: nn.Module) -> Any:
    return jax.eval_shape(module.init, jax.random.key(0), *module.example())["params"]


def abstract_params(module: nn.Module) -> Any:
    """Shapes and dtypes of a network's params, as a plain dict of `jax.ShapeDtypeStruct`."""
    return nn.unbox(boxed_params(module))
