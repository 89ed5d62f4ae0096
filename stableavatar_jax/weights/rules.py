"""Tables of names, read in both directions: PyTorch tensors to parameters (`load`), and back (`export`).

Nothing may be missing, left over or of another shape; and nothing is read before that is known.
"""

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.trees import flatten, unflatten
from stableavatar_jax.weights.formats.tensors import LazyTensor, lazy
from stableavatar_jax.weights.table import Naming, Rule, blank
from stableavatar_jax.words import count

Tree = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What a load passed over by rule: tensors ignored, tensors taken as zero, parameters started anew."""

    ignored: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()


def choose(namings: Iterable[Naming], config: Any, names: Iterable[str]) -> Naming:
    """The naming whose table knows most of the tensor names, the shortest of such; Mistake if none knows any."""
    names = set(names)
    tables = {naming: {rule.source for rule in naming.rules(config)} for naming in namings}
    best = max(tables, key=lambda naming: (len(names & tables[naming]), -len(tables[naming])))
    if not names & tables[best]:
        raise Mistake(
            f"none of its {len(names)} tensors has a name of this part (the file starts with {sorted(names)[:3]}); "
            "check --part, or that the file is the one the README names"
        )
    return best


def match(
    naming: Naming, config: Any, source: Mapping[str, Any], abstract: Mapping[str, Any]
) -> tuple[list[Rule], Report]:
    """The rules that bring these tensors into a tree of the abstract tree's shapes; only shapes are looked at.

    Raises Mistake that lists every missing, unused and mis-shaped tensor. (Tied tensors that a file holds
    twice are read, to see that they are equal.)
    """
    rules, repeats, problems = _tied(naming, naming.rules(config), source)
    targets = flatten(abstract)
    names = set(source) - repeats
    listed = {rule.source for rule in rules}
    ignored = sorted(n for n in names - listed if matches(n, naming.ignored))
    absent = sorted(n for n in listed - names if matches(n, naming.optional))
    problems += [f"unused tensor {n}" for n in sorted(names - listed - set(ignored))]
    problems += [f"missing tensor {n}" for n in sorted(listed - names - set(absent))]
    unfilled = sorted(set(targets) - {r.target for r in rules})
    fresh = [path for path in unfilled if matches(path, naming.fresh)]
    problems += [f"no rule fills parameter {path}" for path in unfilled if path not in fresh]
    problems += [f"no parameter {path}" for path in sorted({r.target for r in rules} - set(targets))]
    problems += _shape_problems(rules, source, targets)
    if problems:
        raise Mistake(_shorten(problems))
    return rules, Report(tuple(ignored), tuple(absent), tuple(fresh))


def loaded(
    naming: Naming,
    config: Any,
    source: Mapping[str, LazyTensor],
    abstract: Mapping[str, Any],
    *,
    dtype: Any = None,
    born: Callable[[tuple[str, ...]], Mapping[str, np.ndarray]] | None = None,
) -> tuple[dict[str, LazyTensor], Report]:
    """The parameters {path: tensor} of the abstract tree's shapes that PyTorch tensors make; none is read yet.

    A stacked parameter is made a layer at a time. `dtype` overrides the leaves' own; `born` gives the parameters at
    `fresh` paths, for a naming that has any. Raises Mistake as `match` does.
    """
    rules, report = match(naming, config, source, abstract)
    targets = flatten(abstract)
    layers: dict[str, dict[int | None, list[Rule]]] = {}
    for rule in rules:
        layers.setdefault(rule.target, {}).setdefault(rule.stack, []).append(rule)
    flat: dict[str, LazyTensor] = {}
    for path, leaf in targets.items():
        if path in layers:
            made = np.dtype(dtype or leaf.dtype)
            flat[path] = _parameter(layers[path], source, tuple(leaf.shape), made, set(report.absent))
    for path, value in (born(report.fresh) if born and report.fresh else {}).items():
        flat[path] = lazy(value).cast(dtype or targets[path].dtype)
    return flat, report


def load(
    naming: Naming, config: Any, source: Mapping[str, Any], abstract: Mapping[str, Any], **options: Any
) -> tuple[Tree, Report]:
    """`loaded`, with all values in memory, as a tree."""
    tensors = {name: tensor if isinstance(tensor, LazyTensor) else _deferred(tensor) for name, tensor in source.items()}
    flat, report = loaded(naming, config, tensors, abstract, **options)
    return unflatten({path: tensor.read() for path, tensor in flat.items()}), report


def exported(naming: Naming, config: Any, params: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """PyTorch's names and tensors of the parameters {path: tensor}, in the table's order; none is read yet."""
    return {rule.source: _export(rule, params[rule.target]) for rule in naming.rules(config)}


def export(naming: Naming, config: Any, params: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """`exported` of a tree in memory, one tensor after another."""
    flat = {path: lazy(leaf) for path, leaf in flatten(params).items()}
    for name, tensor in exported(naming, config, flat).items():
        yield name, tensor.read()


def _parameter(
    layers: Mapping[int | None, list[Rule]],
    source: Mapping[str, LazyTensor],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    absent: set[str],
) -> LazyTensor:
    """One parameter, made of the tensors of its rules: a whole, or a layer at a time."""

    def make(rules: list[Rule], shape: tuple[int, ...]) -> np.ndarray:
        if len(rules) == 1 and rules[0].part is None:
            name = rules[0].source
            return np.broadcast_to(dtype.type(0), shape) if name in absent else rules[0].op.forward(source[name].read())
        out = np.zeros(shape, dtype)
        for rule in rules:
            if rule.source not in absent:
                rule.fused(out)[...] = rule.op.forward(source[rule.source].read()).astype(dtype)
        return out

    if None in layers:
        return LazyTensor(shape, dtype, lambda: make(layers[None], shape))
    row = lambda index: make(layers[index], shape[1:])  # noqa: E731
    return LazyTensor(shape, dtype, lambda: np.stack([row(i).astype(dtype) for i in range(shape[0])]), row)


def _export(rule: Rule, tensor: LazyTensor) -> LazyTensor:
    def load() -> np.ndarray:
        value = rule.op.inverse(rule.fused(tensor.load() if rule.stack is None else tensor[rule.stack]))
        return value if rule.source_shape is None else value.reshape(rule.source_shape)

    slot = rule.slot(blank(tensor.shape))
    shape = rule.source_shape or rule.op.inverse(slot).shape
    return LazyTensor(shape, tensor.dtype, load)


def _deferred(tensor: Any) -> LazyTensor:
    """A tensor of any kind that has a shape, and that NumPy can read."""
    dtype = getattr(tensor, "dtype", np.dtype(np.float32))
    return LazyTensor(tuple(tensor.shape), np.dtype(dtype), lambda: np.asarray(tensor))


def _tied(naming: Naming, rules: list[Rule], source: Mapping[str, Any]) -> tuple[list[Rule], set[str], list[str]]:
    """The rules by the names this file uses, the tensors that only repeat another, and what is wrong with them."""
    repeats, problems = set(), []
    for name, other in naming.tied:
        if other in source and name in source:
            repeats.add(other)
            if not np.array_equal(np.asarray(source[name]), np.asarray(source[other])):
                problems.append(f"tensors {name} and {other} are one parameter, but differ")
        elif other in source:
            rules = [replace(rule, source=other) if rule.source == name else rule for rule in rules]
    return rules, repeats, problems


def _shape_problems(rules: list[Rule], source: Mapping[str, Any], targets: Mapping[str, Any]) -> list[str]:
    """Shapes are compared on empty views, before any tensor is read."""
    problems = []
    for rule in rules:
        if rule.source not in source or rule.target not in targets:
            continue
        leaf = targets[rule.target]
        want = rule.slot(blank(tuple(leaf.shape))).shape
        shape = tuple(source[rule.source].shape)
        try:
            have = rule.op.forward(blank(shape)).shape
        except ValueError:
            have = None
        if have != want or rule.source_shape is not None and shape != rule.source_shape:
            problems.append(f"tensor {rule.source} has shape {shape}, parameter {rule.target} needs {want}")
    return problems


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name is like one of the patterns (fnmatch)."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _shorten(problems: list[str], most: int = 12) -> str:
    more = [f"... and {len(problems) - most} more"] if len(problems) > most else []
    return "\n  ".join([f"{count(len(problems), 'mismatch')}:", *problems[:most], *more])
