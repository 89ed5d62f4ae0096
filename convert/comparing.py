"""Two sets of weights, tensor by tensor: files of any format, and model directories."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.config import read_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import load_preset
from stableavatar_jax.trees import flatten
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.directory import has_part, open_part
from stableavatar_jax.weights.formats.files import open_tensors, unwrapped
from stableavatar_jax.weights.formats.tensors import LazyTensor, lazy
from stableavatar_jax.weights.lora import read_lora
from stableavatar_jax.weights.names.lora import is_lora
from stableavatar_jax.weights.scaled import rescaled

from . import parts
from .inspecting import is_model
from .options import PARTS


@dataclass(frozen=True)
class Difference:
    """How one tensor differs."""

    name: str
    worst: float
    """Largest difference of two values; infinite where the tensor is on one side alone, or has another shape."""
    line: str

    @property
    def equal(self) -> bool:
        """Whether values and dtype are the same, bit for bit."""
        return not self.line


def compare(a: Path, b: Path, preset: Path | None = None) -> list[Difference]:
    """Every tensor of both, the worst first. Weights that the tables know are compared by the model's own names.

    So a PyTorch file and the part of a model directory that it became are compared value by value. The sizes are those
    of `preset`, else of a model directory among the two or of the known model that fits; weights of other sizes are
    compared by the names they have.
    """
    given = {str(path): read_config(path, AvatarConfig) for path in (a, b) if is_model(path)}
    known = {str(preset): load_preset(preset, AvatarConfig)} if preset else given | parts.KNOWN
    left, right = (_opened(path, known) for path in (a, b))
    if not left.keys() & right.keys():
        raise Mistake(f"{a} and {b} have no tensor in common; for a model of a size of its own, give --config")
    found = [_difference(name, left.get(name), right.get(name), a, b) for name in sorted(left.keys() | right.keys())]
    return sorted(found, key=lambda difference: (-difference.worst, difference.equal))


def _difference(name: str, x: LazyTensor | None, y: LazyTensor | None, a: Path, b: Path) -> Difference:
    if x is None or y is None:
        return Difference(name, np.inf, f"in {b if x is None else a} alone")
    if x.shape != y.shape:
        return Difference(name, np.inf, f"shape {x.shape} in {a}, {y.shape} in {b}")
    worst, same, count = 0.0, x.dtype == y.dtype, 0
    for p, q in _together(x, y):
        if p.dtype == q.dtype and p.tobytes() == q.tobytes():
            continue
        same = False
        p, q = p.astype(np.float64), q.astype(np.float64)
        unequal = ~((p == q) | (np.isnan(p) & np.isnan(q)))
        count += int(unequal.sum())
        gap = np.abs(p - q)[unequal]
        worst = max(worst, float(np.nan_to_num(gap, nan=np.inf, posinf=np.inf).max(initial=0)))
    if same:
        return Difference(name, 0.0, "")
    dtypes = f", {x.dtype} and {y.dtype}" if x.dtype != y.dtype else ""
    return Difference(name, worst, f"{count} of {x.size} values differ, by {worst:.3g} at most{dtypes}")


def _together(x: LazyTensor, y: LazyTensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The values of two tensors of one shape, flat, in pieces of one length; each may be cut in its own way."""
    left, right = ((piece.reshape(-1) for piece in tensor.pieces()) for tensor in (x, y))
    p = q = np.empty(0)
    while True:
        p, q = (p if p.size else next(left, p)), (q if q.size else next(right, q))
        size = min(p.size, q.size)
        if not size:
            return
        yield p[:size], q[:size]
        p, q = p[size:], q[size:]


def _opened(path: Path, known: Mapping[str, Any]) -> dict[str, LazyTensor]:
    """Weights by the model's own names where they are known, else by those they have."""
    if is_model(path):
        held = {name: open_part(path / name) for name in PARTS if has_part(path / name)}
        return {f"{name}/{key}": tensor for name, tensors in held.items() for key, tensor in tensors.items()}
    tensors = rescaled(open_tensors(path, unwrap=False))
    if path.is_file() and is_lora(tensors):
        return {f"lora/{name}": lazy(leaf) for name, leaf in flatten(read_lora(path).tree).items()}
    tensors = unwrapped(tensors)
    like = parts.nearest(tensors, known)
    if like is None:
        return tensors
    try:
        flat, _ = rules.loaded(like.naming, like.part.config, tensors, like.part.abstract)
    except Mistake:
        return tensors
    # the tables turn tensors about and do not change them: a file's dtype stays
    dtypes = {
        rule.target: tensors[rule.source].dtype
        for rule in like.naming.rules(like.part.config)
        if rule.source in tensors
    }
    return {f"{like.part.name}/{key}": tensor.cast(dtypes.get(key, tensor.dtype)) for key, tensor in flat.items()}
