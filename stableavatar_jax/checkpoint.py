"""Weights in a model directory: `DIR/config.json`, `DIR/tokenizer.json`, and one orbax folder `DIR/PART` for each part
(or one file `DIR/PART.safetensors`, see `weights.directory`).

Arrays lie as plain zarr chunks of up to 32 MiB, not in orbax's single-database form, which holds a whole part in memory
while it is written; and uncompressed, because compression takes off 7% of float32 weights and doubles reading time.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from stableavatar_jax import hosts, startup
from stableavatar_jax.errors import Mistake
from stableavatar_jax.locks import hidden
from stableavatar_jax.models.avatar import boxed_params, part, settled
from stableavatar_jax.models.compute import Attention
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.sharding import initialise, shardings, unbox
from stableavatar_jax.trees import flatten, unflatten
from stableavatar_jax.weights.directory import open_part, part_file
from stableavatar_jax.weights.formats.safetensors import open_safetensors
from stableavatar_jax.weights.formats.tensors import LazyTensor
from stableavatar_jax.whole import whole

Tree = dict[str, Any]

CHUNK_BYTES = 32 << 20


def save_params(folder: Path, params: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write a tree of NumPy or JAX arrays; the folder appears when all is written, and not at all on failure.

    NumPy arrays are read where they are, so memory-mapped ones need little memory. In a multi-process run every
    process calls this with its shards of the same tree. Raises Mistake where the folder exists already.
    """
    folder = folder.absolute()
    params = dict(params)
    chunked = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), params)
    ours = whole(folder, folder=True, replace=overwrite or None) if hosts.is_first() else contextlib.nullcontext()
    with ours, quiet(), _checkpointer() as checkpointer:
        checkpointer.save(hidden(folder), ocp.args.PyTreeSave(params, save_args=chunked))
    hosts.meet(f"saved {folder}")


def load_params(folder: Path, abstract: Mapping[str, Any], *, dtype: Any = None, shardings: Any = None) -> Tree:
    """The tree of a folder, each leaf restored straight into its dtype and sharding.

    `abstract` has leaves with `.shape` and `.dtype`; `dtype` overrides the dtype of floating leaves; `shardings` is one
    Sharding or a tree of them (default: the first local device). Peak host memory is the tree's plus about twice its
    largest leaf as stored. Raises Mistake, before anything is read, unless paths and shapes are the folder's.
    """
    check_params(folder, abstract)
    abstract = dict(abstract)
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0]) if shardings is None else shardings
    if isinstance(sharding, jax.sharding.Sharding):
        sharding = jax.tree.map(lambda _: sharding, abstract)

    def wanted(leaf, sharding):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.ShapeDtypeStruct(leaf.shape, dtype if dtype and floating else leaf.dtype, sharding=sharding)

    target = jax.tree.map(wanted, abstract, sharding)
    if file := part_file(folder):
        tensors = open_safetensors(file)
        flat = {path: _placed(tensors[path], want) for path, want in flatten(target).items()}
        return unflatten(flat)
    largest = max(leaf.size * leaf.dtype.itemsize for leaf in saved_params(folder).values())
    args = ocp.args.PyTreeRestore(target, restore_args=ocp.checkpoint_utils.construct_restore_args(target))
    with _reading(folder), _checkpointer(read_at_once=largest) as checkpointer:
        return checkpointer.restore(folder.absolute(), args)


def check_params(folder: Path, abstract: Mapping[str, Any]) -> None:
    """Raise Mistake with every path and shape in which a folder's weights differ from the abstract tree's."""
    have, want = saved_params(folder), flatten(abstract)
    problems = [f"{path} is missing" for path in sorted(want.keys() - have.keys())]
    problems += [f"{path} has no place in the model" for path in sorted(have.keys() - want.keys())]
    problems += [
        f"{path} has shape {have[path].shape}, {tuple(want[path].shape)} is needed"
        for path in sorted(have.keys() & want.keys())
        if have[path].shape != tuple(want[path].shape)
    ]
    if problems:
        listed = "\n  ".join(problems[:12])
        more = f"\n  ... and {len(problems) - 12} more" if len(problems) > 12 else ""
        raise Mistake(
            f"{folder}: these weights and the config do not fit together:\n  {listed}{more}\n"
            f"use the config.json they were written with, or import {folder.name} again with --overwrite"
        )


def saved_params(folder: Path) -> dict[str, jax.ShapeDtypeStruct]:
    """{path joined by "/": shape and dtype} of a folder's weights, from its metadata alone."""
    if file := part_file(folder):
        return {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in open_safetensors(file).items()}
    if not folder.is_dir():
        open_part(folder)  # says what is missing
    with _reading(folder), _checkpointer() as checkpointer:
        tree = checkpointer.metadata(folder.absolute()).item_metadata.tree
        return {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in flatten(tree).items()}

def load_part(
    directory: Path | None, model: AvatarConfig, name: str, *, dtype: str = "float32",
    attention: Attention = "auto", seed: int = 0, mesh: Mesh | None = None,
) -> tuple[Any, Tree]:  # fmt: skip
    """A network and its weights, by its name in `models.avatar.PARTS`, weights and computation in `dtype`, on one
    device or cut as a mesh says.

    Without a model directory the weights are drawn from the seed, which serves as a smoke test and nothing else.
    """
    module = part(model, name, settled(model, name, jax.devices()[0], dtype, attention=attention))
    if directory is None:
        return module, initialise(module, jax.random.key(seed), mesh)
    boxed = boxed_params(module)
    return module, load_params(directory / name, unbox(boxed), shardings=mesh and shardings(boxed, mesh))


class Parts:
    """The networks of a model, each loaded when it is asked for: the one place that loads them, and lets them go."""

    def __init__(
        self, model: AvatarConfig, directory: Path | None = None, *, seed: int = 0, keep: bool = False,
        transformer: Path | None = None,
    ):  # fmt: skip
        """`keep` holds what was loaded for the next call; without it nothing here refers to weights given out.

        `transformer` is the model directory of the transformer, where that is not the one of all other parts.
        """
        self.model, self.directory, self.seed, self.keep, self.transformer = model, directory, seed, keep, transformer
        self._kept: dict[tuple[str, str], tuple[Any, Tree]] = {}

    def load(
        self, name: str, dtype: str = "float32", *, attention: Attention = "auto", keep: bool | None = None,
        mesh: Mesh | None = None,
    ) -> tuple[Any, Tree]:  # fmt: skip
        """A network and its weights (`load_part`)."""
        if (name, dtype) in self._kept:
            return self._kept[name, dtype]
        with startup.weights():
            directory = self.transformer if self.transformer and name == "dit" else self.directory
            loaded = load_part(
                directory, self.model, name, dtype=dtype, attention=attention, seed=self.seed, mesh=mesh
            )
            jax.block_until_ready(loaded[1])
        if self.keep if keep is None else keep:
            self._kept[name, dtype] = loaded
        return loaded


def iterate_params(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Path and value of every leaf, as stored, one leaf in memory at a time."""
    for path, tensor in open_part(folder).items():
        yield path, tensor.read()


def _placed(tensor: LazyTensor, want: jax.ShapeDtypeStruct) -> jax.Array:
    """A mapped parameter on its devices; each process copies the shards it needs, one at a time."""
    shard = lambda index: np.array(tensor.load()[index], want.dtype)  # noqa: E731
    return jax.make_array_from_callback(want.shape, want.sharding, shard)


def _checkpointer(read_at_once: int = 0) -> ocp.Checkpointer:
    """Orbax set up to hold little in memory: no copies of host arrays, and few leaves (in bytes) read at once."""
    handlers = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)),
        (jax.Array, ocp.type_handlers.ArrayHandler()),
    )
    gigabytes = 1 + -(-read_at_once // 10**9)  # orbax refuses a leaf that is larger than the limit
    return ocp.Checkpointer(
        ocp.PyTreeCheckpointHandler(
            use_ocdbt=False, use_compression=False, restore_concurrent_gb=gigabytes, type_handler_registry=handlers
        )
    )


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # orbax and tensorstore raise many kinds
        first = str(error).splitlines()[0][:200] if str(error) else ""
        advice = f"import {folder.name} again with --overwrite"
        raise Mistake(f"{folder}: no readable weights ({type(error).__name__}: {first}); {advice}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Orbax warns on every save that there is no database to merge (that form is not used on purpose), and prints the
    traceback of every error that it raises.
    """
    logger = logging.getLogger("absl")
    nothing = lambda record: False  # noqa: E731
    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)
