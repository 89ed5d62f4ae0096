"""A compiled program read from its text: what each operation computes, reads, writes and sends.

The text is XLA's HLO after optimisation. Operations within a loop count as often as it turns; what a kernel does is not
in the text, and follows from the shapes that it is given.
"""

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SIZES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}
SHAPE = re.compile(r"(pred|bf16|f8\w*|[suf]\d+)\[([\d,]*)\](?:\{([^}]*)\})?")
BY_AXES = re.compile(
    r"replica_groups=mesh\[([^\]]+)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}"
)
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


@dataclass(frozen=True)
class Operation:
    """One line of a program."""

    name: str
    kind: str
    shape: str
    operands: tuple[str, ...]
    rest: str
    """What follows the operands: the computations it calls, how a product contracts, who sends to whom."""

    def called(self, key: str) -> str | None:
        """A computation that it calls, by the key in its text."""
        found = re.search(rf"\b{key}=%?([\w.\-]+)", self.rest)
        return found[1] if found else None


def shapes(text: str) -> list[tuple[str, tuple[int, ...], str]]:
    """Dtype, sizes and layout of every array in a shape."""
    numbers = lambda sizes: tuple(int(n) for n in sizes.split(",") if n)  # noqa: E731
    return [(dtype, numbers(sizes), layout) for dtype, sizes, layout in SHAPE.findall(text)]


def bytes_of(text: str, *, everywhere: bool = False) -> float:
    """Bytes of a shape's arrays in the device's main memory, or wherever they are (a TPU's own cache is `S(1)`)."""
    size = lambda dtype: SIZES.get(dtype, 1 if dtype.startswith("f8") else 4)  # noqa: E731
    return float(sum(
        math.prod(sizes) * size(dtype) for dtype, sizes, layout in shapes(text) if everywhere or "S(" not in layout
    ))  # fmt: skip


def read(text: str) -> tuple[dict[str, list[Operation]], str]:
    """The computations of a program by their names, and the name of the one it begins with."""
    computations: dict[str, list[Operation]] = {}
    entry, current = "", None
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if head:
            current = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif current is not None and (operation := _operation(line)):
            current.append(operation)
    return computations, entry


def _operation(line: str) -> Operation | None:
    found = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)", line)
    if not found:
        return None
    name, rest = found.groups()
    if rest.startswith("("):
        end = _closing(rest, 0)
        shape, rest = rest[: end + 1], rest[end + 1 :].lstrip()
    else:
        shape, _, rest = rest.partition(" ")
    kind, _, rest = rest.partition("(")
    end = _closing("(" + rest, 0) - 1
    operands = tuple(re.findall(r"%([\w.\-]+)", rest[:end]))
    if kind in ("constant", "parameter"):
        operands = (rest[:end],)
    return Operation(name, kind, shape, operands, rest[end + 1 :])


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    return len(text)


class Program:
    """A compiled program's computations, and what each does."""

    def __init__(self, text: str, axes: dict[str, int]):
        """`axes` are the sizes of the mesh that it was compiled for, in the order of its devices."""
        self.computations, self.entry = read(text)
        self.axes = axes
        self.by_name = {name: {op.name: op for op in ops} for name, ops in self.computations.items()}

    def turns(self, loop: Operation) -> int:
        """How often a loop turns: what its condition compares the counter with."""
        known = re.search(r'known_trip_count[^}]*?"n":"(\d+)"', loop.rest)
        if known:
            return int(known[1])
        condition = self.computations[loop.called("condition") or ""]
        limits = [int(op.operands[0]) for op in condition if op.kind == "constant" and op.operands[0].isdigit()]
        return max(limits, default=1)

    def bodies(self, operation: Operation) -> Iterator[tuple[str, float]]:
        """Computations that an operation runs one after another, and how often."""
        if operation.kind == "while":
            yield operation.called("body") or "", float(self.turns(operation))
        elif operation.kind == "conditional":  # the dearest branch, whichever it is
            names = re.findall(r"%([\w.\-]+)", operation.rest.partition("branch_computations=")[2].partition("}")[0])
            names = names or [n for key in ("true_computation", "false_computation") if (n := operation.called(key))]
            yield max(names, key=self.product_flops), 1.0
        elif operation.kind == "call":
            yield operation.called("to_apply") or "", 1.0

    @functools.cache  # noqa: B019 - a program lives as long as its plan is made
    def product_flops(self, name: str) -> float:
        """Operations of the matrix products of a computation and of all it calls."""
        total = 0.0
        for op in self.computations[name]:
            if op.kind in ("dot", "convolution"):
                total += self.flops(name, op)
            elif op.kind == "fusion":
                total += self.product_flops(op.called("calls") or "")
            total += sum(times * self.product_flops(body) for body, times in self.bodies(op))
        return total

    def flops(self, name: str, op: Operation) -> float:
        """Operations of one matrix product: two for every multiply-add."""
        right = self.by_name[name].get(op.operands[1])
        left = self.by_name[name].get(op.operands[0])
        result = math.prod(shapes(op.shape)[0][1])
        if op.kind == "dot" and left:
            axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", op.rest)
            sizes = shapes(left.shape)[0][1]
            return 2.0 * result * math.prod(sizes[int(a)] for a in (axes[1] if axes else "").split(",") if a)
        labels = re.search(r"dim_labels=\w+_(\w+)->", op.rest)
        if not (labels and right):
            return 0.0
        kernel = dict(zip(labels[1], shapes(right.shape)[0][1], strict=True))
        # A TPU writes an axis of batches as a window that meets one element of it: it is dilated by its own size.
        dilated = re.search(r"lhs_dilate=([\dx]+)", op.rest)
        for place, step in enumerate((dilated[1] if dilated else "").split("x")):
            if step.isdigit() and int(step) > 1 and kernel.get(str(place)) == int(step):
                kernel[str(place)] = 1
        return 2.0 * result * math.prod(size for label, size in kernel.items() if label != "o")

    def along(self, op: Operation) -> tuple[str, int]:
        """The mesh axes that a collective operation runs along, and how many devices take part in one."""
        group = _first_group(op.rest, math.prod(self.axes.values()))
        places = np.array(np.unravel_index(np.array(group), tuple(self.axes.values())))
        names = [axis for axis, row in zip(self.axes, places, strict=True) if len(set(row.tolist())) > 1]
        return " x ".join(names) or "none", len(group)


def _first_group(text: str, devices: int) -> list[int]:
    """The devices of the first group of a collective operation; of a permutation, those of its first pair."""
    if pairs := re.search(r"source_target_pairs=\{\{([\d,]+)\}", text):
        return [int(n) for n in pairs[1].split(",")]
    if explicit := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return [int(n) for n in explicit[1].split(",")]
    if counted := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        ids = _arranged(counted[3], counted[4])
        return ids.reshape(int(counted[1]), int(counted[2]))[0].tolist()
    if by_axes := BY_AXES.search(text):
        sizes = {name: int(n) for name, n in re.findall(r"'([^']+)'=(\d+)", by_axes[1])}
        ids = _arranged(by_axes[2] or str(devices), by_axes[3]).reshape(tuple(sizes.values()))
        cut = re.findall(r"'([^']+)'", by_axes[4])
        return ids[tuple(slice(None) if name in cut else 0 for name in sizes)].ravel().tolist()
    return list(range(devices))


def _arranged(sizes: str, order: str | None) -> np.ndarray:
    """Device numbers counted up in some sizes, their axes turned."""
    shape = [int(n) for n in sizes.split(",")]
    ids = np.arange(math.prod(shape)).reshape(shape)
    return (ids.transpose([int(n) for n in order.split(",")]) if order else ids).ravel()
