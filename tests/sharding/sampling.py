"""A video in both orders on eight devices, beside one; what the transformer's blocks move between them; the decoder."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from stableavatar_jax.configs import tiny
from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.guidance import audio_native
from stableavatar_jax.diffusion.reuse import Step
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.models.avatar import boxed_params, part
from stableavatar_jax.models.config import Conv
from stableavatar_jax.sampling import memory, plain, wavefront
from stableavatar_jax.sampling.decode import decoder, pieces
from stableavatar_jax.sampling.program import Source
from stableavatar_jax.sampling.velocity import join, make_velocity, share, slots
from stableavatar_jax.sharding import make_mesh, shardings
from tests.params import random_params
from tests.sharding.steps import moves

MODEL = dataclasses.replace(tiny.model, dit=dataclasses.replace(tiny.model.dit, layers=2))
MESHES = {
    "rows": MeshConfig(data=-1, fsdp=1, context=1),
    "weights cut": MeshConfig(context=1),
    "tokens cut": MeshConfig(fsdp=2, context=4, ulysses=2),
}
WINDOWS, SIZE, STEPS, GUIDANCE = 5, (6, 6), 2, audio_native(3.0, 1.0)
GRID = (16, 8)
"""Latent rows and columns of a picture: of eight devices each has 4 x 4."""
WINDOW = WindowConfig(window=4, overlap=2, rows=2)


ORDERS = {
    "plain": (plain, "make_sweep", plain.make_plain),
    "wavefront": (wavefront, "make_advance", wavefront.make_wavefront),
}
"""Of each order the module, what makes its program there, and the order itself."""
SCHEDULE = (Step(), Step(guided=False, skipped=True))
"""Of steps that keep guidance, and leave the blocks out."""


def noted(make: Callable[..., Any], texts: list[str], programs: list[Any]) -> Callable[..., Any]:
    """What makes a program, which is noted, with the text of what is compiled at the first call."""

    def made(*options: Any) -> Callable[..., Any]:
        program = make(*options)
        programs.append(program)

        def run(*inputs: Any) -> Any:
            if not texts:
                texts.append(program.lower(*inputs).compile().as_text())
            return program(*inputs)

        return run

    return made


def video(
    mesh: jax.sharding.Mesh | None, order: str, schedule: tuple[Step, ...] = ()
) -> tuple[np.ndarray, dict[str, Any], float]:
    """Latents of a video; how many operations the blocks are in the order's program, what they move, and how many
    versions of each kind of step's program there are; the share of what the blocks added that a device holds.
    """
    dit, rng, c = part(MODEL, "dit"), np.random.default_rng(0), MODEL.dit
    normal = lambda *shape: rng.standard_normal(shape, np.float32)  # noqa: E731
    conditions = Conditions(
        text=normal(2, c.text_len, c.text_dim), text_mask=np.arange(c.text_len) < np.asarray([[5], [9]]),
        image=normal(7, c.image_dim), reference=normal(4, *SIZE, 20), audio=normal(WINDOWS, 25, c.adapter.audio_dim),
    )  # fmt: skip
    params = random_params(dit)
    if mesh:
        params = jax.device_put(params, shardings(boxed_params(dit), mesh))
    shared, noise = share(dit, params, conditions, 25), normal(60, *SIZE, 16)
    sounds = [slots(dit, params, each, 4) for each in conditions.audio]
    source = Source(
        noise=lambda start, count: jax.numpy.asarray(noise[start : start + count]), windows=WINDOWS, shared=shared,
        sounds=lambda first: iter(sounds[first:]),
    )  # fmt: skip
    velocity = make_velocity(dit, GUIDANCE, mesh, schedule, bool(schedule))
    (module, name, make), texts, programs = ORDERS[order], list[str](), list[Any]()
    with mock.patch.object(module, name, noted(getattr(module, name), texts, programs)):
        denoise = make(velocity, solvers.solver("euler", STEPS, 5.0), WINDOW, "cpu", join)
    made = np.concatenate([block.z for block in denoise([source])])
    within = [line for line in texts[0].splitlines() if "run_blocks" in line]
    kept = memory.begin(velocity, 3, (4, *SIZE, 16))
    held = kept.added.addressable_shards[0].data.size / kept.added.size if schedule else 0.0
    told = {"blocks": len(within), "moves": moves("\n".join(within)), "versions": [p._cache_size() for p in programs]}
    return made, told, held


def decoded(place: jax.NamedSharding | None, conv: Conv = "taps") -> tuple[np.ndarray, list[list[int]]]:
    """Frames of two calls of the decoder, and the shares of a device of the frames and of all that is kept of them."""
    config = dataclasses.replace(tiny.model.vae, dim=8, dim_mult=(1, 1, 1, 1), num_res_blocks=1, conv=conv)
    vae = part(dataclasses.replace(MODEL, vae=config), "vae")
    params, z = random_params(vae), np.random.default_rng(0).standard_normal((2, *GRID, config.z_dim), np.float32)
    if place:
        params = jax.device_put(params, jax.NamedSharding(place.mesh, jax.P()))
    first, cache = decoder(vae, place)(params, z[:1], None)
    second, cache = decoder(vae, place)(params, z[1:], cache)
    sides = lambda x: [whole // part for whole, part in zip(x.shape, x.sharding.shard_shape(x.shape), strict=True)]  # noqa: E731
    return np.concatenate([first, second]), [sides(second[None]), *map(sides, jax.tree.leaves(cache))]


def main(output: Path) -> None:
    place = pieces(make_mesh(MESHES["rows"]), *GRID)
    alone, found = decoded(None)[0].astype(int), dict[str, Any]()
    for conv in ("taps", "direct"):
        here, shares = decoded(place, conv)
        levels = np.abs(here - alone)
        found[f"decoder, {conv}"] = {"levels": int(levels.max()), "other": float(levels.mean()), "cut": shares}
    alone = video(None, "plain")[0]
    for name, config in MESHES.items():
        for order in ("plain", "wavefront") if name == "rows" else ("plain",):
            made, moved, _ = video(make_mesh(config, heads=MODEL.dit.heads), order)
            length = min(len(made), len(alone))
            apart = np.linalg.norm(made[:length] - alone[:length]) / np.linalg.norm(alone[:length])
            found[f"{name}, {order}"] = {"worst": float(apart)} | moved
    alone = video(None, "plain", SCHEDULE)[0]
    made, told, held = video(make_mesh(MESHES["rows"], heads=MODEL.dit.heads), "wavefront", SCHEDULE)
    length = min(len(made), len(alone))
    apart = np.linalg.norm(made[:length] - alone[:length]) / np.linalg.norm(alone[:length])
    found["rows, remembered"] = {"worst": float(apart), "held": held, "versions": told["versions"]}
    output.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
