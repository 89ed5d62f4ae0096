"""Attention in every layout, beside plain attention over all keys: values and gradients, on eight devices."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.models.attention import attention
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.sharding import make_mesh, on_mesh

ONE = dict(data=1, fsdp=1, context=1, tensor=1)
LAYOUTS = {
    "local": ONE | dict(data=2, tensor=4),
    "ulysses": ONE | dict(data=2, context=4),
    "ring": ONE | dict(data=2, context=4, ulysses=1),
    "ring of 8": ONE | dict(context=8, ulysses=1),
    "ulysses x ring": ONE | dict(context=8),
    "ulysses x ring x tensor": ONE | dict(context=4, ulysses=2, tensor=2),
    "all axes": ONE | dict(data=2, context=2, tensor=2),
}
LENGTHS = {"even": (16, None), "odd and limited": (19, (19, 4))}
"""Tokens, and how many of them each row reads; each in every layout."""
MORE = {"odd": (13, None), "limited": (16, (11, 3)), "long": (1061, None)}
"""The same, in the layout of two kinds."""
HEADS, SIZE, COMPUTE = 12, 8, Compute()


def arrays(length: int, rows: int = 2) -> list[jax.Array]:
    shape = rows, length, HEADS, SIZE
    return [jax.random.normal(jax.random.key(i), shape) * (2 if i < 2 else 1) for i in range(4)]


def program(length: int, limits: tuple[int, ...] | None, cut: str = "both"):
    """The result and the gradients of q, k, v, compiled for the mesh that is set; its inputs."""
    *qkv, direction = arrays(length)
    lengths = None if limits is None else jnp.array(limits)

    def both(*qkv):
        attend = lambda *qkv: attention(*qkv, COMPUTE, lengths=lengths, cut=cut)  # noqa: E731
        out, back = jax.vjp(attend, *qkv)
        return out, *back(direction)

    return jax.jit(both).lower(*qkv).compile(), qkv


def worst(one, other) -> float:
    """The largest difference of two lists of arrays, each relative to the array's norm."""
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in zip(one, other, strict=True))


def main(output: Path) -> None:
    found = {}

    def look(layout: str, name: str, plain, case, cut="both") -> None:
        with on_mesh(make_mesh(MeshConfig(**LAYOUTS[layout]), heads=HEADS)):
            compiled, inputs = program(*case, cut)
            moves = sorted({kind for kind in ("all-to-all", "collective-permute") if f" {kind}(" in compiled.as_text()})
            found[f"{layout}, {name}"] = {"worst": worst(plain, jax.device_get(compiled(*inputs))), "moves": moves}

    for name, case in {**LENGTHS, **MORE}.items():
        compiled, inputs = program(*case)
        plain = jax.device_get(compiled(*inputs))
        for layout in LAYOUTS if name in LENGTHS else ["ulysses x ring"]:
            look(layout, name, plain, case)
        if name == "odd":
            look("all axes", "queries alone", plain, case, "queries")
    output.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
