"""Attention on a mesh: which device reads which keys for which queries, around any kernel.

    local     tokens are whole, or only the queries are cut: every device has all the keys it reads
    Ulysses   devices exchange heads for tokens (all-to-all), and each reads all tokens for some of the heads
    ring      keys and values go from device to device, and the parts that each has read are merged in float32
    2D        Ulysses among the devices of `ulysses`, then a ring over those of `ring`

Which mesh axes cut rows, tokens and heads is said by the rules that the program is traced under (`sharding.RULES`);
the axes of tokens are the ring's and Ulysses', in this order. No kernel can be cut by XLA, so all run in `shard_map`.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax.sharding import AxisType, PartitionSpec

from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.attention.ring import Piece, ring
from stableavatar_jax.shapes import Array, Float, Int

Cut = Literal["none", "queries", "both"]
"""What lies along the tokens of a video, and so is cut where these are: nothing, the queries, the keys too."""
Whole = Callable[[Array, Array, Array, Array | None], Array]
"""Attention `q, k, v, lengths -> out` on one device."""


class Place(NamedTuple):
    """Sizes of the mesh that a program is traced for, and the mesh axes that rows, tokens and heads are cut along."""

    sizes: dict[str, int]
    rows: tuple[str, ...]
    tokens: tuple[str, ...]
    heads: tuple[str, ...]

    def size(self, axes: tuple[str, ...]) -> int:
        """Devices along some axes together."""
        return math.prod(self.sizes[axis] for axis in axes)


def place() -> Place | None:
    """The mesh that is traced for; None on one device, and within a `shard_map`, where all is local."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or AxisType.Manual in mesh.axis_types:
        return None
    spec = nn.logical_to_mesh_axes(("batch", "tokens", "heads")) or ()
    rows, tokens, heads = ((axes,) if isinstance(axes, str) else tuple(axes or ()) for axes in spec)
    known = dict(zip(mesh.axis_names, mesh.axis_sizes, strict=True))
    return Place(known, *(tuple(a for a in axes if a in known) for axes in (rows, tokens, heads)))


def cuts() -> int:
    """Pieces that the tokens of a video are cut into."""
    where = place()
    return where.size(where.tokens) if where else 1


def in_row(x: Float[Array, "*B F P D"]) -> Float[Array, "*B L D"]:
    """Tokens of frames in the order in which they are cut into equal pieces.

    Every piece has the same places of all frames, so a token and the sound of its frame are on one device. Places are
    filled up with zeros where they do not divide; these come last, so a key length keeps them from being read.
    """
    if (pieces := cuts()) == 1:
        return rearrange(x, "... F P D -> ... (F P) D")
    missing = -x.shape[-2] % pieces
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, missing), (0, 0)])
    return rearrange(x, "... F P D -> ... (P F) D")


def by_frame(x: Float[Array, "B L *D"], frames: int) -> Float[Array, "B F P *D"]:
    """Tokens of a row by their frames, those that it was filled up with included."""
    order = "(F P)" if cuts() == 1 else "(P F)"
    return rearrange(x, f"B {order} ... -> B F P ...", F=frames)


def from_frames(x: Float[Array, "B F P *D"]) -> Float[Array, "B L *D"]:
    """The inverse of `by_frame`."""
    order = "(F P)" if cuts() == 1 else "(P F)"
    return rearrange(x, f"B F P ... -> B {order} ...")


def spread(
    q: Float[Array, "B L N K"], k: Float[Array, "B M N K"], v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None, *, where: Place, cut: Cut, whole: Whole, piece: Piece,
) -> Float[Array, "B L N K"]:  # fmt: skip
    """Attention on a mesh; `whole` reads all the keys on one device, `piece` some of them. Raises Mistake where the
    heads cannot be dealt to the devices.
    """
    length, keys, heads = q.shape[1], k.shape[1], q.shape[2]
    turns, exchanging = _context(where) if cut == "both" else (1, 1)
    if cut == "none" and heads % where.size(where.heads):
        where = where._replace(heads=())  # a small network's; each device computes them all
    if heads % (where.size(where.heads) * exchanging):
        raise Mistake(
            f"{heads} attention heads cannot be dealt to {where.size(where.heads)} devices of --mesh.tensor, each "
            f"part to {exchanging} of --mesh.ulysses; choose sizes whose product divides them"
        )
    pieces = where.size(where.tokens)
    if cut != "none":
        q = _fill(q, pieces)
    if cut == "both" and keys % pieces:
        lengths = jnp.full(len(q), keys, jnp.int32) if lengths is None else lengths
        k, v = _fill(k, pieces), _fill(v, pieces)
    rows = where.rows if len(q) % where.size(where.rows) == 0 else None

    def local(q: Array, k: Array, v: Array, lengths: Array | None) -> Array:
        if exchanging > 1:
            axis = where.tokens[-1]
            q, k, v = (jax.lax.all_to_all(x, axis, 2, 1, tiled=True) for x in (q, k, v))
        out = whole(q, k, v, lengths) if turns == 1 else ring(q, k, v, lengths, where.tokens[0], turns, piece)
        return jax.lax.all_to_all(out, axis, 1, 2, tiled=True) if exchanging > 1 else out

    cut_along = lambda tokens: PartitionSpec(rows, tokens, where.heads, None)  # noqa: E731
    along_q, along_k = (where.tokens if cut in which else None for which in (("queries", "both"), ("both",)))
    places = (cut_along(along_q), cut_along(along_k), cut_along(along_k), PartitionSpec(rows))
    # What is equal on several devices is so by construction; kernels cannot prove it to JAX.
    on_each = jax.shard_map(local, in_specs=places, out_specs=cut_along(along_q), check_vma=False)
    return on_each(q, k, v, lengths)[:, :length]


def _context(where: Place) -> tuple[int, int]:
    """Devices of the ring, and those that exchange heads."""
    if len(where.tokens) == 2:
        return where.sizes[where.tokens[0]], where.sizes[where.tokens[1]]
    return where.size(where.tokens), 1


def _fill(x: Array, pieces: int) -> Array:
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % pieces), (0, 0), (0, 0)))
