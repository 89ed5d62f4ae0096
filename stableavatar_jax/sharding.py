"""Meshes, and the one table from what an axis of an array means to the mesh axis it is cut along.

    axis      what lies along it                                     when to make it larger than 1
    data      different rows of the batch                            more rows than one chip holds
    fsdp      rows of the batch; every weight is cut along it too    weights and optimizer do not fit on one chip
    context   tokens of one video                                    one window's tokens do not fit on one chip
    tensor    heads and feed-forward width                           lower latency for few rows

Modules name the axes of their weights and activations; only this file knows the mesh.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from stableavatar_jax.compiling import quickly
from stableavatar_jax.errors import Mistake
from stableavatar_jax.hosts import MeshConfig

AXES = ("data", "fsdp", "context", "tensor")

RULES = (
    ("batch", ("data", "fsdp")),
    ("tokens", "context"),
    ("embed", "fsdp"),
    ("heads", "tensor"),
    ("mlp", "tensor"),
    ("vocab", "tensor"),
    # Kept whole: small, or the second axis of a weight whose first is cut.
    ("layers", None),
    ("embed_activation", None),
    ("embed_out", None),
    ("patch", None),
    ("norm", None),
    ("audio", None),
    ("vae_in", None),
    ("vae_out", None),
)



def make_mesh(config: MeshConfig | None = None, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over all devices (or those given); raises ValueError where the sizes do not multiply to their number."""
    config = config or MeshConfig()
    devices = jax.devices() if devices is None else devices
    sizes = [getattr(config, axis) for axis in AXES]
    known = int(np.prod([size for size in sizes if size != -1]))
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise Mistake(f"mesh {dict(zip(AXES, sizes, strict=True))}: sizes are 1 or more, and at most one is -1")
    sizes = [len(devices) // known if size == -1 else size for size in sizes]
    if int(np.prod(sizes)) != len(devices):
        raise Mistake(
            f"mesh {dict(zip(AXES, sizes, strict=True))} takes {int(np.prod(sizes))} devices, there are {len(devices)}"
        )
    # Linen's constraints need Auto axes; jax.make_mesh makes Explicit ones unless told.
    return Mesh(np.asarray(devices).reshape(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def shardings(boxed: Any, mesh: Mesh) -> Any:
    """NamedShardings for an abstract tree whose leaves still carry their axis names (`jax.eval_shape(module.init)`)."""
    return nn.logical_to_mesh_sharding(nn.get_partition_spec(boxed), mesh, RULES)


def unbox(tree: Any) -> Any:
    """The tree with its leaves freed of the names of their axes."""
    return nn.unbox(tree)


def is_boxed(leaf: Any) -> bool:
    """Whether a leaf carries the names of its axes."""
    return isinstance(leaf, nn.meta.AxisMetadata)


@contextlib.contextmanager
def on_mesh(mesh: Mesh) -> Iterator[None]:
    """Where programs are traced that run on a mesh: with it, and with what the axes' names mean on it."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
        yield


def draw(module: nn.Module, key: jax.Array) -> Any:
    """The module's params drawn from a key, with the names of their axes; to be traced."""
    example = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), module.example())
    return module.init(key, *example)["params"]


def initialise(module: nn.Module, key: jax.Array, mesh: Mesh | None = None) -> Any:
    """The module's params, initialised in their dtype and sharding: no device ever holds all of them."""
    init = functools.partial(draw, module)
    if mesh is None:
        return unbox(jax.jit(init, compiler_options=quickly())(key))
    boxed = jax.eval_shape(init, key)
    with on_mesh(mesh):
        born = jax.jit(init, out_shardings=shardings(boxed, mesh), compiler_options=quickly())
        return unbox(born(key))
