"""What a table of names is made of: rules from a PyTorch tensor to a slice of a parameter, and the changes of layout.

A rule says which slice of which parameter one PyTorch tensor fills. A part's table of rules is a plain list, made from
the part's config; `rules` reads it from left to right and from right to left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


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
        return self.fused(target if self.stack is None else target[self.stack])

    def fused(self, layer: np.ndarray) -> np.ndarray:
        """The slice of one layer of it (a view)."""
        if self.part is None:
            return layer
        k, n = self.part
        size = layer.shape[-1] // n
        return layer[..., k * size : (k + 1) * size]


@dataclass(frozen=True, kw_only=True)
class Naming:
    """One way a part's weights are named on disk."""

    name: str
    rules: Callable[[Any], list[Rule]]
    """From the part's config to its table."""
    ignored: tuple[str, ...] = ()
    """Patterns (fnmatch) of tensors a real file holds besides, with no place in the part."""
    optional: tuple[str, ...] = ()
    """Patterns of tensors a real file may lack; the parameter is then zero."""
    tied: tuple[tuple[str, str], ...] = ()
    """(name, other): a real file may hold tensor `name` under the name `other`, or under both, if both are equal."""
    fresh: tuple[str, ...] = ()
    """Patterns of parameter paths that this file has no tensors for: they start as the network is born."""


def blank(shape: tuple[int, ...]) -> np.ndarray:
    """An array of any shape in the memory of one number."""
    return np.lib.stride_tricks.as_strided(np.zeros(1), shape, (0,) * len(shape))
