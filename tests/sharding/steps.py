"""The loss and every gradient of the transformer on every preset of a mesh, beside one device; on eight devices."""

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.chips import PLANNED
from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.plan.program import Program
from stableavatar_jax.plan.roofline import cost
from stableavatar_jax.sharding import PRESETS, make_mesh
from stableavatar_jax.training.memory import bytes_each
from stableavatar_jax.training.parts import dit
from stableavatar_jax.training.parts.dit_step import Draws, draw, gradients
from stableavatar_jax.trees import flatten
from tests.training import tiny

MESHES = {"one": MeshConfig(fsdp=1, context=1)} | PRESETS
MADE_AGAIN = ("fsdp", "tensor")
"""Where blocks are made again going back: weights are then gathered, and gradients summed, in a way of their own."""
ROWS, SHAPE = 8, (3, 6, 6)  # nine places a frame: of eight pieces five have tokens to read, and three have none
MOVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
TRANSFORMER = dataclasses.replace(
    tiny.MODEL.dit, dim=96, ffn_dim=64, heads=12, text_dim=16, image_dim=16,
    adapter=dataclasses.replace(tiny.MODEL.dit.adapter, dim=96),
)  # fmt: skip
MODEL = dataclasses.replace(
    tiny.MODEL, dit=TRANSFORMER, umt5=dataclasses.replace(tiny.MODEL.umt5, dim=16),
    clip_vision=dataclasses.replace(tiny.MODEL.clip_vision, dim=16),
)  # fmt: skip


def prepared(name: str, devices: int = 8, rows: int = ROWS) -> Any:
    mesh = make_mesh(MESHES[name], jax.devices()[: 1 if name == "one" else devices], rows=rows, heads=TRANSFORMER.heads)
    again = "attention" if name in MADE_AGAIN else "none"
    return dit.prepare(tiny.config(model=MODEL, train="all", batch=rows, remat=again), mesh)


def weights(abstract: Any) -> Any:
    """Random weights, no part of which is zero, where the mesh wants them."""
    rng = np.random.default_rng(0)

    def drawn(path: Any, x: Any) -> jax.Array:
        noise = rng.standard_normal(x.shape) * (x.shape[-2] if x.ndim > 1 else 4) ** -0.5
        near = 1.0 if path[-1].key == "scale" else 0.0
        return jax.device_put((near + noise).astype(np.float32), x.sharding)

    return jax.tree_util.tree_map_with_path(drawn, abstract)


def by_row(run: Any, tree: Any) -> Any:
    """Arrays with their rows where the mesh wants them."""
    spec = lambda x: jax.P(("data", "fsdp")) if np.ndim(x) else jax.P()  # noqa: E731
    return jax.tree.map(lambda x: jax.device_put(x, jax.NamedSharding(run.mesh, spec(x))), tree)


def compiled_step(run: Any, params: Any, data: Any, draws: Draws) -> Any:
    """The program of a step's losses and gradients."""

    def step(params: Any, batch: Any, draws: Draws) -> Any:
        state = dataclasses.replace(run.abstract, params=params)
        grads, rows = gradients(run.model, state, batch, draws, run.config.step)
        return {"gradient": grads["params"], "loss": {name: x.mean() for name, x in rows.items()}}

    places = {"gradient": jax.tree.map(lambda x: x.sharding, params["params"]), "loss": None}
    with run.on_mesh():
        return jax.jit(step, out_shardings=places).lower(params, by_row(run, data), by_row(run, draws)).compile()


def look(name: str, data: Any, draws: Draws) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a compiled step takes and moves; its losses and gradients, frame by frame and with all sound at once."""
    run, values = prepared(name), {}
    params = weights(run.abstract.params)
    compiled = compiled_step(run, params, data, draws)
    for at_once in (False, True):
        made = compiled(params, by_row(run, data), by_row(run, draws._replace(clip_level=np.asarray(at_once))))
        values |= {f"{path}, {at_once}": np.asarray(x) for path, x in flatten(jax.device_get(made)).items()}
    kernel = params["params"]["blocks"]["ffn"]["up"]["kernel"]
    return {
        "moves": moves(compiled.as_text()), "argument": compiled.memory_analysis().argument_size_in_bytes,
        "weights": bytes_each(run.abstract.params), "shard": kernel.sharding.shard_shape(kernel.shape),
        "sent": sent(run, compiled),
    }, values  # fmt: skip


def moves(text: str) -> list[str]:
    """The kinds of collective operations in a compiled program."""
    return [kind for kind in MOVES if re.search(rf" {kind}(-start)?\(", text)]


def sent(run: Any, compiled: Any) -> float:
    """Bytes that a chip sends in a step."""
    return sum(cost(Program(compiled.as_text(), dict(run.mesh.shape)), PLANNED["cpu"]).sent.values())


def sent_by_one_of(devices: int, data: Any, draws: Draws) -> float:
    """The same where each of so many chips has all weights, and a row of its own."""
    run = prepared("rows", devices, devices)
    first = lambda tree: jax.tree.map(lambda x: x[:devices] if np.ndim(x) else x, tree)  # noqa: E731
    return sent(run, compiled_step(run, run.abstract.params, first(data), first(draws)))


def forward_moves(name: str) -> list[str]:
    """What one evaluation moves between devices, its weights whole on each."""
    run, c = prepared(name), MODEL.dit
    rows, whole = (jax.NamedSharding(run.mesh, spec) for spec in (jax.P(("data", "fsdp")), jax.P()))
    shaped = lambda *shape: jax.ShapeDtypeStruct((ROWS, *shape), "float32", sharding=rows)  # noqa: E731
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), run.abstract.params)
    inputs = (shaped(*SHAPE, 16), shaped(), shaped(*SHAPE, 20), shaped(5, c.text_dim), shaped(7, c.image_dim),
              shaped(17, c.adapter.audio_dim))  # fmt: skip

    def apply(params: Any, z: Any, t: Any, given: Any, text: Any, image: Any, audio: Any) -> Any:
        return run.model.apply(params, z, t, given, text, jnp.ones(text.shape[:2], bool), image, audio)

    with run.on_mesh():
        return moves(jax.jit(apply, out_shardings=rows).lower(params, *inputs).compile().as_text())


def main(output: Path) -> None:
    data = tiny.batch(0, ROWS, SHAPE, MODEL.dit)
    draws = jax.device_get(draw(jax.random.key(3), (ROWS, *SHAPE, 16), tiny.config().step))
    found, one = {"forward": {name: forward_moves(name) for name in ("rows", "context")}}, {}
    found["sent by one of two"] = sent_by_one_of(2, data, draws)
    for name in MESHES:
        found[name], here = look(name, data, draws)
        one = one or here
        # A bias of keys moves all scores of a query alike: its gradient is rounding alone.
        apart = {path: float(np.linalg.norm(x - one[path]) / np.linalg.norm(one[path]))
                 for path, x in here.items() if "k_audio/bias" not in path}  # fmt: skip
        found[name] |= {"worst": max(apart.values()), "where": max(apart, key=apart.__getitem__)}
    output.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
