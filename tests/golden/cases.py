"""The reference numbers: cases found on disk, weights rebuilt by their rule, results held to the stated tolerance.

`../shared/golden/README.md` and `ENCODERS.md` describe the format. A case is one JSON file, mostly with a safetensors
file beside it; its group is its folder.
"""

import fnmatch
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file

# Cases that compare with something this project does not do, by name, each with its reason.
LEFT_OUT = {
    "dataset/motion_id*": "training does not use it",
    "preprocess/color_match*": "colour matching is never called by the release, nor needed here",
    "teacache/*": "TeaCache skips evaluations by a table fitted to another model; not part of the method",
}
# The same by what the case holds: its latents make fewer tokens than it is told to fill up to.
PARTIAL = "the release's partial windows: ours are always whole, the sound is padded instead (docs/method.md)"

# Parts of a case left out, named where the test skips them: RIFLEx in dit_*/rope_tables (not part of the method), the
# threefold lengths of projector_1b_b2_f33 (ours have one per row, compared after repeating).


@dataclass(frozen=True)
class Case:
    """One case of the folder."""

    path: Path

    @property
    def group(self) -> str:
        return self.path.parent.name

    @property
    def name(self) -> str:
        return f"{self.group}/{self.path.stem}"

    @cached_property
    def info(self) -> dict[str, Any]:
        return json.loads(self.path.read_text())

    @cached_property
    def tensors(self) -> dict[str, np.ndarray]:
        return load_file(self.path.with_suffix(".safetensors"))

    @property
    def reason_left_out(self) -> str | None:
        """Why the case is not compared, or None where it is."""
        for pattern, reason in LEFT_OUT.items():
            if fnmatch.fnmatchcase(self.name, pattern):
                return reason
        return PARTIAL if self.partial else None

    @property
    def partial(self) -> bool:
        """Whether it is a window with fewer tokens (2x2 latents each) than it is padded to."""
        filled = self.info.get("call", {}).get("seq_len")
        return bool(filled) and filled > np.prod(self.info["tensors"]["in/x"]["shape"][2:]) // 4

    def tolerance(self, name: str) -> dict[str, float]:
        """The case's stated `atol` and `rtol` for a tensor (`out/...`, `mid/...`)."""
        stated = self.info["tolerance"]
        stated = stated.get(name.split("/")[0], stated)
        return {"atol": stated.get("atol", 0.0), "rtol": stated.get("rtol", 0.0)}

    def check(self, name: str, actual: Any, **tolerance: float) -> None:
        """Fail unless `actual` equals the case's tensor `name` to the stated tolerance."""
        np.testing.assert_allclose(
            np.asarray(actual), self.tensors[name], err_msg=f"{self.name} {name}",
            **(tolerance or self.tolerance(name)),
        )


def find(folder: Path) -> list[Case]:
    """Every case under a golden folder, sorted by name."""
    return [Case(path) for path in sorted(folder.glob("*/*.json"))]


def weight(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The weight of a PyTorch key by the rule of both guides."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()) + seed))
    w = np.asarray(rng.standard_normal(size=tuple(shape), dtype=np.float32), np.float32)
    last = key.rsplit(".", 1)[-1]
    if last in ("original0", "weight_g"):
        return 1 + np.float32(0.1) * w
    if last in ("weight", "original1", "weight_v") and w.ndim >= 2:
        return w * np.float32(1 / np.sqrt(float(np.prod(w.shape[1:]))))
    if last == "gamma" or last == "weight" and w.ndim == 1:
        return np.float32(1) + np.float32(0.1) * w
    return np.float32(0.1) * w


def weights(shapes: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """All weights of a case's manifest {key: shape}."""
    return {key: weight(key, tuple(shape), seed) for key, shape in shapes.items()}


def apply(model: Any, params: Any, *inputs: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
    """The model's output, and that of every module in it: {module: {..., "__call__": (output,)}}."""
    capture = partial(model.apply, capture_intermediates=True, mutable=["intermediates"], **options)
    out, inner = jax.jit(capture)({"params": params}, *inputs)
    return out, inner["intermediates"]
