"""Rules between PyTorch tensor names and paths of the params tree, read in both directions.

A rule says which slice of which parameter one PyTorch tensor fills. A part's table of rules is a plain list, made
from the part's config; `load` reads it from left to right, `export` from right to left. Nothing may be missing, left
over or of another shape.
"""

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flax import traverse_util

from stableavatar_jax.errors import Mistake

Tree = dict[str, Any]


@dataclass(frozen=True)
class Op:
    """A change of layout, and the change that undoes it."""

    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]


def _moves(*order: int) -> Op:
    back = tuple(int(i) for i in np.argsort(order))
    return Op(lambda x: x.transpose(order), lambda x: x.transpose(back))


KEEP = Op(lambda x: x, lambda x: x)
LINEAR = _moves(1, 0)  # (out, in) -> [in, out]
CONV1D = _moves(2, 1, 0)  # (out, in, k) -> [k, in, out]
CONV2D = _moves(2, 3, 1, 0)  # (out, in, h, w) -> [h, w, in, out]
CONV3D = _moves(2, 3, 4, 1, 0)  # (out, in, t, h, w) -> [t, h, w, in, out]
FLAT = Op(lambda x: x.reshape(-1), lambda x: x)  # given back its shape by `Rule.source_shape`


@dataclass(frozen=True, kw_only=True)
class Rule:
    """PyTorch tensor `source` fills a slice of the parameter at path `target` (joined by `/`)."""

    source: str
    target: str
    op: Op = KEEP
    stack: int | None = None
    """Index on the target's first axis, where layers are stacked."""
    part: tuple[int, int] | None = None
    """(k, n): the k-th of n equal slices of the target's last axis, where projections are fused."""
    source_shape: tuple[int, ...] | None = None
    """The PyTorch shape, where the op alone cannot give it back (size-1 axes)."""

    def slot(self, target: np.ndarray) -> np.ndarray:
        """The slice of the whole parameter that this rule's tensor fills (a view)."""
        view = target if self.stack is None else target[self.stack]
        if self.part is None:
            return view
        k, n = self.part
        size = view.shape[-1] // n
        return view[..., k * size : (k + 1) * size]


@dataclass(frozen=True, kw_only=True)
class Naming:
    """One way a part's weights are named on disk."""

    name: str
    rules: Callable[[Any], list[Rule]]
    """A function that makes the table from the part's config."""
    ignored: tuple[str, ...] = ()
    """Patterns (fnmatch) of further tensors in a real file that have no place in the part."""
    optional: tuple[str, ...] = ()
    """Patterns of tensors a real file may lack; the parameter is then zero."""
    tied: tuple[tuple[str, str], ...] = ()
    """(name, other): a real file may hold tensor `name` under the name `other`, or under both, if both are equal."""
    fresh: tuple[str, ...] = ()
    """Patterns of parameter paths that this file has no tensors for: they keep their initial values."""



@dataclass(frozen=True)
class Report:
    """What a load passed over by rule: tensors ignored, tensors taken as zero, parameters started anew."""

    ignored: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dict -> {path joined by "/": leaf}."""
    return traverse_util.flatten_dict(dict(tree), sep="/")


def unflatten(flat: Mapping[str, Any]) -> Tree:
    """{path joined by "/": leaf} -> nested dict."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


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
    ignored = sorted(n for n in names - listed if _matches(n, naming.ignored))
    absent = sorted(n for n in listed - names if _matches(n, naming.optional))
    problems += [f"unused tensor {n}" for n in sorted(names - listed - set(ignored))]
    problems += [f"missing tensor {n}" for n in sorted(listed - names - set(absent))]
    unfilled = sorted(set(targets) - {r.target for r in rules})
    fresh = [path for path in unfilled if _matches(path, naming.fresh)]
    problems += [f"no rule fills parameter {path}" for path in unfilled if path not in fresh]
    problems += [f"no parameter {path}" for path in sorted({r.target for r in rules} - set(targets))]
    problems += _shape_problems(rules, source, targets)
    if problems:
        raise Mistake(_shorten(problems))
    return rules, Report(tuple(ignored), tuple(absent), tuple(fresh))


def load(
    naming: Naming,
    config: Any,
    source: Mapping[str, np.ndarray],
    abstract: Mapping[str, Any],
    *,
    dtype: Any = None,
    empty: Callable[[str, tuple[int, ...], Any], np.ndarray] = lambda path, shape, dtype: np.empty(shape, dtype),
    born: Callable[[tuple[str, ...]], Mapping[str, np.ndarray]] | None = None,
) -> tuple[Tree, Report]:
    """Fill a params tree of the abstract tree's shapes (leaves with `.shape`, `.dtype`) from PyTorch tensors.

    One tensor of `source` is read at a time. `dtype` overrides the leaves' own; `empty` makes the arrays to fill
    (path, shape, dtype); `born` gives the parameters at `fresh` paths, for a naming that has any. Raises Mistake
    as `match` does, before anything is read.
    """
    rules, report = match(naming, config, source, abstract)
    targets = flatten(abstract)
    flat: dict[str, np.ndarray] = {}
    for rule in sorted(rules, key=lambda rule: rule.target):
        leaf = targets[rule.target]
        if rule.target not in flat:
            flat[rule.target] = empty(rule.target, tuple(leaf.shape), dtype or leaf.dtype)
        slot = rule.slot(flat[rule.target])
        absent = rule.source in report.absent
        slot[...] = 0 if absent else rule.op.forward(np.asarray(source[rule.source])).astype(slot.dtype)
    for path, value in (born(report.fresh) if born and report.fresh else {}).items():
        flat[path] = np.asarray(value).astype(dtype or targets[path].dtype)
    return unflatten(flat), report


def export(naming: Naming, config: Any, params: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The PyTorch names and tensors of a params tree, one at a time, in the table's order."""
    flat = flatten(params)
    for rule in naming.rules(config):
        value = rule.op.inverse(rule.slot(np.asarray(flat[rule.target])))
        yield rule.source, value if rule.source_shape is None else value.reshape(rule.source_shape)


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
        want = rule.slot(np.lib.stride_tricks.as_strided(np.zeros(1), leaf.shape, (0,) * len(leaf.shape))).shape
        shape = tuple(source[rule.source].shape)
        try:
            have = rule.op.forward(np.lib.stride_tricks.as_strided(np.zeros(1), shape, (0,) * len(shape))).shape
        except ValueError:
            have = None
        if have != want or rule.source_shape is not None and shape != rule.source_shape:
            problems.append(f"tensor {rule.source} has shape {shape}, parameter {rule.target} needs {want}")
    return problems


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _shorten(problems: list[str], most: int = 12) -> str:
    more = [f"... and {len(problems) - most} more"] if len(problems) > most else []
    return "\n  ".join([f"{len(problems)} mismatches:", *problems[:most], *more])
