"""What a step cache was measured for, and the steps that it leaves out. Read without JAX."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stableavatar_jax.config import from_json, to_json
from stableavatar_jax.diffusion.reuse import Schedule, Step, guided_steps, skipped_steps
from stableavatar_jax.errors import Mistake, explained
from stableavatar_jax.inputs import check_file
from stableavatar_jax.trees import flatten
from stableavatar_jax.whole import whole

if TYPE_CHECKING:
    from stableavatar_jax.sampling.config import Denoising, Frame

MAKE_ONE = "`python -m stableavatar_jax.sampling calibrate` makes one"
ENDS = 1 << 20
"""Bytes at the beginning and at the end of a file of weights by which it is known."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the blocks add at a step, in size, over what they added at the step before."""

    valid_for: dict[str, Any]
    """Options and weights that it was measured with."""
    ratios: dict[str, list[float]] = field(default_factory=dict)
    """Of each branch of guidance, one for each step; the first is 1."""


def read_calibration(path: Path) -> Calibration:
    """The calibration in a file. Raises Mistake."""
    check_file(path, MAKE_ONE)
    try:
        with explained(path):
            found = from_json(Calibration, json.loads(path.read_text()), file=path)
    except Mistake:
        raise
    except ValueError as error:
        raise Mistake(f"{path}: no calibration ({error}); {MAKE_ONE}") from None
    steps = found.valid_for.get("steps")
    for name, ratios in found.ratios.items():
        if len(ratios) != steps or not all(0 < ratio < float("inf") for ratio in ratios):
            raise Mistake(f"{path}: {steps} finite ratios above 0 are needed for {name}; {MAKE_ONE}")
    return found


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(json.dumps(to_json(calibration), indent=1, allow_nan=False) + "\n")


def about(denoising: "Denoising", frame: "Frame") -> dict[str, Any]:
    """The options that a calibration is valid for, by their names on the command line."""
    scales = {"audio_native": ("w1", "w2"), "cfg": ("text_scale", "audio_scale", "cfg_null"), "none": ()}
    names = ("steps", "solver", "shift", "guidance", *scales[denoising.guidance])
    return {name: getattr(denoising, name) for name in names} | {
        "levels": list(denoising.fewer.noise_levels), "renoise": denoising.fewer.renoises,
        "height": frame.height, "width": frame.width, "window": denoising.windows.window,
    }  # fmt: skip


def check(denoising: "Denoising", frame: "Frame", weights: str | None = None) -> None:
    """Raise Mistake, by name, where a cache was measured for something else; `weights` is their `fingerprint`, where it
    is known.
    """
    if (path := denoising.fewer.cache) is None:
        return
    have, want = read_calibration(path).valid_for, about(denoising, frame)
    want |= {"weights": weights} if weights else {}
    for name in [name for name in want if have.get(name) != want[name]]:
        if name == "weights":
            raise Mistake(f"{path}: it was calibrated for other weights; calibrate these")
        option = f"--{name.replace('_', '-')}"
        raise Mistake(f"{path}: it was calibrated for {option} {have.get(name)}, not {want[name]}; calibrate again")


def schedule(denoising: "Denoising") -> Schedule:
    """What each step evaluates; empty where all of them evaluate everything. Raises Mistake for a cache of others."""
    fewer, steps = denoising.fewer, denoising.steps
    if fewer.whole:
        return ()
    from stableavatar_jax.diffusion.guidance import MAIN

    branches = denoising.guided().branches
    guided = guided_steps(steps, fewer.guidance_from, fewer.guidance_until)
    if len(branches) == 1:
        guided = (True,) * steps
    elif MAIN not in branches and (fewer.cache or fewer.guidance_reuse):
        raise Mistake("guidance has no branch with prompt and sound (text_scale is 0): nothing stands for the others")
    skipped = (False,) * steps
    if fewer.cache:
        ratios = _ratios(fewer.cache, [name(branch) for branch in branches], steps)
        skipped = skipped_steps(
            ratios, guided, branches.index(MAIN), threshold=fewer.cache_threshold, most=fewer.cache_most,
            first=fewer.cache_first,
        )  # fmt: skip
    return tuple(map(Step, guided, skipped))


def _ratios(path: Path, names: list[str], steps: int) -> list[list[float]]:
    """The ratios of branches. Raises Mistake where the file has others."""
    found = read_calibration(path)
    if (have := found.valid_for.get("steps")) != steps:
        raise Mistake(f"{path}: it was calibrated for --steps {have}, not {steps}; calibrate again")
    if missing := [each for each in names if each not in found.ratios]:
        raise Mistake(f"{path}: it was calibrated without the branch {missing[0]!r} of guidance; calibrate again")
    return [found.ratios[each] for each in names]


def name(branch: Any) -> str:
    """A branch of guidance in words."""
    return f"{branch.text}, {branch.audio}"


def fingerprint(folder: Path | None, seed: int, loras: Iterable[tuple[Any, float]]) -> str:
    """What a transformer's weights are known by: its files' names, sizes and ends, and the LoRAs merged into it."""
    known = hashlib.sha256()
    files = [] if folder is None else sorted(path for path in folder.glob("dit*") for path in [path, *path.rglob("*")])
    for path in (path for path in files if path.is_file()):
        assert folder is not None
        size = path.stat().st_size
        known.update(json.dumps([str(path.relative_to(folder)), size]).encode())
        with path.open("rb") as file:
            known.update(file.read(ENDS))
            file.seek(max(0, size - ENDS))
            known.update(file.read(ENDS))
    if folder is None:
        known.update(f"drawn from seed {seed}".encode())
    for tree, scale in loras:
        known.update(repr(scale).encode())
        for place, leaf in sorted(flatten(tree).items()):
            known.update(place.encode() + np.ascontiguousarray(leaf).tobytes())
    return known.hexdigest()[:32]
