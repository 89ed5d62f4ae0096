"""Meshes, and the one table from what an axis of an array means to the mesh axis it is cut along.

    axis      what lies along it                                     when to make it larger than 1
    data      different rows of the batch                            more rows than one chip holds
    fsdp      rows of the batch; every weight is cut along it too    weights and optimizer do not fit on one chip
    context   tokens of one video; every weight too                  fewer rows than chips, or a row too long for one
    tensor    heads and feed-forward width                           lower latency for few rows

A mesh has `context` as two axes, by what self-attention does along it (`models/attention/layouts.py`): along `ulysses`
devices exchange heads for tokens, along `ring` they pass keys on.

Modules name the axes of their weights and activations; only this file knows the mesh.
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from stableavatar_jax.compiling import quickly
from stableavatar_jax.errors import Mistake
from stableavatar_jax.hosts import MeshConfig

AXES = ("data", "fsdp", "ring", "ulysses", "tensor")
CONTEXT = ("ring", "ulysses")

RULES = (
    ("batch", ("data", "fsdp")),
    ("tokens", CONTEXT),
    ("embed", ("fsdp", *CONTEXT)),
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

PRESETS = {
    "rows": MeshConfig(data=-1, fsdp=1, context=1),
    "fsdp": MeshConfig(),
    "slices": MeshConfig(data=2),
    "context": MeshConfig(fsdp=1),
    "tensor": MeshConfig(context=1, tensor=2),
}
"""Meshes for any number of devices, by what they are for. `rows`: LoRA of the 1.3B, and sampling where the weights fit
on each chip. `fsdp` (the default): training within one slice; more chips than rows cut the tokens. `slices`: training
on two slices. `context`: one row over all chips, for the shortest wait. `tensor`: few rows and short windows.
docs/pods.md says which model takes which where."""


def make_mesh(
    config: MeshConfig | None = None, devices: Sequence[Any] | None = None, *, rows: int | None = None,
    heads: int | None = None,
) -> Mesh:  # fmt: skip
    """A mesh over all devices, or those given.

    `rows` of a batch and attention `heads` are what the mesh is for: sizes that are -1 follow from them. Raises Mistake
    where the sizes do not multiply to the number of devices, and where rows or heads cannot be cut so.
    """
    devices = jax.devices() if devices is None else devices
    sizes = _sizes(config or MeshConfig(), len(devices), rows, heads)
    # Linen's constraints need Auto axes; jax.make_mesh makes Explicit ones unless told.
    return Mesh(_arranged(devices, sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _sizes(config: MeshConfig, devices: int, rows: int | None, heads: int | None) -> tuple[int, ...]:
    """Devices along each of `AXES`."""
    asked = {name: getattr(config, name) for name in ("data", "fsdp", "context", "tensor")}
    free = [name for name, size in asked.items() if size == -1]
    if heads is None and "context" in free and len(free) > 1:  # what is trained has no tokens to cut
        free.remove("context")
        asked["context"] = 1
    both = free == ["fsdp", "context"]
    if (len(free) > 1 and not both) or any(size < 1 for size in asked.values() if size != -1):
        raise Mistake(f"mesh {asked}: sizes are 1 or more, and -1 (what is left) for one, or for fsdp and context")
    left, rest = divmod(devices, math.prod(size for size in asked.values() if size != -1))
    if rest or (not free and left != 1):
        taken = math.prod(size for size in asked.values() if size != -1)
        raise Mistake(f"mesh {asked} takes {taken} devices{' or a multiple' if free else ''}, there are {devices}")
    if both:
        asked["fsdp"] = left if rows is None else math.gcd(left, max(rows // asked["data"], 1))
        asked["context"] = left // asked["fsdp"]
    elif free:
        asked[free[0]] = left
    if rows is not None:
        divides("data x fsdp", asked["data"] * asked["fsdp"], rows, "the rows of a batch")
    if heads is not None:
        divides("tensor", asked["tensor"], heads, "the attention heads")
    ulysses = config.ulysses
    if ulysses == -1:
        ulysses = math.gcd(asked["context"], heads // asked["tensor"]) if heads else 1
    divides("ulysses", ulysses, asked["context"], "the devices of --mesh.context")
    if heads is not None:
        divides("ulysses", ulysses, heads // asked["tensor"], "the attention heads that --mesh.tensor leaves a device")
    return asked["data"], asked["fsdp"], asked["context"] // ulysses, ulysses, asked["tensor"]


def divides(axis: str, size: int, length: int, what: str) -> None:
    """Raise Mistake unless the size of a mesh axis divides a length; it names the nearest sizes that do."""
    if size >= 1 and length % size == 0:
        return
    fit = [n for n in range(1, length + 1) if length % n == 0]
    below, above = [n for n in fit if n < size], [n for n in fit if n > size]
    near = " or ".join(str(n) for n in [*below[-1:], *above[:1]])
    option = f"--mesh.{axis}" if " " not in axis else axis
    raise Mistake(f"{option} is {size}, which does not divide {what} ({length}); {near} would")


def _arranged(devices: Sequence[Any], sizes: tuple[int, ...]) -> np.ndarray:
    """The devices in the shape of the mesh, neighbours along its later axes near one another.

    Several TPU slices are joined by a network that is far slower than the links within one: rows are cut across it,
    first `data`, then `fsdp`; the axes of one row lie within a slice.
    """
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if len(devices) == 1 or devices[0].platform != "tpu":
        # By host, and so along the links within one; `jax.devices()` does not promise an order.
        key = lambda device: (getattr(device, "slice_index", 0) or 0, device.process_index, device.id)  # noqa: E731
        return np.asarray(sorted(devices, key=key)).reshape(sizes)
    if slices == 1:
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    across = network_part(sizes, slices)
    within = [size // part for size, part in zip(sizes, across, strict=True)]
    return mesh_utils.create_hybrid_device_mesh(within, across, devices, allow_split_physical_axes=True)


def network_part(sizes: tuple[int, ...], slices: int) -> tuple[int, ...]:
    """How many of the devices along each axis lie in different slices."""
    data = math.gcd(sizes[0], slices)
    fsdp = math.gcd(sizes[1], slices // data)
    if data * fsdp != slices:
        raise Mistake(
            f"mesh data {sizes[0]} x fsdp {sizes[1]}: rows are cut across slices, and there are {slices} of them; "
            f"data x fsdp must be a multiple of {slices} (a larger batch, or a smaller --mesh.context)"
        )
    return data, fsdp, 1, 1, 1


def sampling_mesh(config: MeshConfig, weights: int, heads: int, memory: int | None = None) -> Mesh | None:
    """The mesh that a video is sampled on; None on a single device.

    Unless something else is asked for, rows are dealt to all devices: each has all weights, where these (in bytes) take
    less than half of its memory; else they are cut.
    """
    devices = jax.local_devices()  # processes that share a list make videos of their own
    if len(devices) == 1:
        make_mesh(config, devices, heads=heads)  # what cannot be is refused here too
        return None
    if config == MeshConfig():
        fits = memory is None or weights < memory / 2
        config = MeshConfig(data=-1, fsdp=1, context=1) if fits else MeshConfig(context=1)
    return make_mesh(config, devices, heads=heads)


def share_of_rows(mesh: Mesh) -> tuple[int, int]:
    """Which share of a batch's rows this process reads, and how many shares there are; processes that cut the tokens of
    the same rows among them read the same. Raises Mistake where the shares are not whole and equal.
    """
    row = np.arange(mesh.shape["data"] * mesh.shape["fsdp"]).reshape(-1, 1)
    rows = np.broadcast_to(row, (row.size, mesh.devices.size // row.size))
    owners = np.vectorize(lambda device: device.process_index)(mesh.devices).reshape(rows.shape)
    held = {int(process): tuple(sorted(set(rows[owners == process].tolist()))) for process in np.unique(owners)}
    shares = sorted(set(held.values()))
    if sum(map(len, shares)) != row.size or len(set(map(len, shares))) != 1:
        raise Mistake(
            f"mesh {told(mesh)}: the rows of a batch lie unevenly on the processes; let data x fsdp, or context x "
            "tensor, be a multiple of the devices of a process"
        )
    return shares.index(held[jax.process_index()]), len(shares)


def told(mesh: Mesh) -> str:
    """The axes of a mesh that are cut, in words: `fsdp 4 x context 2 (Ulysses 2)`; empty on one device."""
    size = dict(mesh.shape)
    parts = [f"{axis} {size[axis]}" for axis in ("data", "fsdp") if size[axis] > 1]
    if (context := size["ring"] * size["ulysses"]) > 1:
        kinds = [f"{name} {n}" for name, n in (("ring", size["ring"]), ("Ulysses", size["ulysses"])) if n > 1]
        parts.append(f"context {context} ({' x '.join(kinds)})")
    if size["tensor"] > 1:
        parts.append(f"tensor {size['tensor']}")
    return " x ".join(parts)


def shardings(boxed: Any, mesh: Mesh) -> Any:
    """NamedShardings for an abstract tree whose leaves still carry their axis names (`jax.eval_shape(module.init)`).

    Raises Mistake where an axis of a weight cannot be cut into equal parts.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(boxed, is_leaf=is_boxed):
        for name, length in zip(leaf.names, leaf.value.shape, strict=True) if is_boxed(leaf) else ():
            cut = np.atleast_1d(dict(RULES).get(name) or ())
            size = math.prod(mesh.shape[axis] for axis in cut)
            option = " x ".join(axis for axis in cut if mesh.shape[axis] > 1)
            where = jax.tree_util.keystr(path, simple=True, separator="/")
            divides(option, size, length, f"the axis {name!r} of {where}")
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


@contextlib.contextmanager
def traced_for(mesh: Mesh | None) -> Iterator[None]:
    """The same within a program that is being traced already; without a mesh nothing."""
    if mesh is None:
        yield
        return
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh), nn.logical_axis_rules(RULES):
        yield


def rows_at_once(mesh: Mesh) -> int:
    """Devices that rows of a batch are dealt to."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def draw(module: nn.Module, key: jax.Array) -> Any:
    """The module's params drawn from a key, with the names of their axes; to be traced."""
    example = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), module.example())
    return module.init(key, *example)["params"]


def initialise(module: nn.Module, key: jax.Array, mesh: Mesh | None = None) -> Any:
    """The module's params, initialised in their dtype and sharding: no device ever holds all of them."""
    if mesh is None:  # with the module as an argument the same one is traced once
        return unbox(jax.jit(draw, static_argnums=0, compiler_options=quickly())(module, key))
    boxed = jax.eval_shape(functools.partial(draw, module), key)
    with on_mesh(mesh):
        born = jax.jit(draw, static_argnums=0, out_shardings=shardings(boxed, mesh), compiler_options=quickly())
        return unbox(born(module, key))
