"""How long a compiled program takes on a chip at best: each operation computes, or moves, or waits for others.

An operation takes the longer of its matrix products at the chip's peak and its bytes at the memory's bandwidth; an
attention kernel, the share of the peak that was measured of it (`chips`). A collective that is begun before its result
is needed runs beside the other operations of its loop; one that is not adds its time.
"""

import math
import re
from dataclasses import dataclass, field

from stableavatar_jax.chips import Chip
from stableavatar_jax.plan.program import COLLECTIVES, Operation, Program, bytes_of, shapes

FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id", "iota",
    "opt-barrier", "while", "conditional", "call",
}  # fmt: skip
"""Operations that move nothing by themselves."""
BEGUN, ENDED = "async-collective-start", "async-collective-done"
"""Fusions that begin a collective operation and end it. Those between them carry it on beside a product; all of these
hold the operation itself."""
IN_FLIGHT = re.compile(r"\{0:S\(4\)\}")
"""In the shape of what such a fusion hands on to the next: a counter in a memory of its own."""
WITHIN = {"dynamic-slice", "bitcast", "slice"}


@dataclass
class Cost:
    """What an operation, or many, do on one device."""

    flops: float = 0.0
    """Operations of matrix products, attention kernels included."""
    moved: float = 0.0
    """Bytes from and to the device's memory."""
    computing: float = 0.0
    """Seconds: over operations, the sum of the longer of computing and moving."""
    kernels: float = 0.0
    """The seconds of attention kernels among them."""
    waiting: float = 0.0
    """Seconds of collectives that nothing runs beside."""
    hidden: float = 0.0
    """Seconds of collectives that run beside other operations."""
    total: float = 0.0
    """Seconds of all of it."""
    sent: dict[tuple[str, str], float] = field(default_factory=dict)
    """Bytes of results, by kind of collective operation and the mesh axes that it runs along."""

    def add(self, other: "Cost", times: float = 1.0) -> None:
        """Add another cost, so many times."""
        for name in ("flops", "moved", "computing", "kernels", "waiting", "hidden", "total"):
            setattr(self, name, getattr(self, name) + times * getattr(other, name))
        for key, size in other.sent.items():
            self.sent[key] = self.sent.get(key, 0.0) + times * size


def cost(program: Program, chip: Chip, name: str | None = None) -> Cost:
    """What a computation of the program (by default all of it) does on one device."""
    name = program.entry if name is None else name
    own, within = Cost(), Cost()
    for op in program.computations[name]:
        kind = None if _begun_before(program, name, op) else collective(program, op)
        if kind:
            own.add(_sent(program, op, kind, chip))
        elif op.kind not in FREE and not op.kind.endswith("-done") and not op.name.startswith(ENDED):
            own.add(_work(program, name, op, chip))
        for body, times in program.bodies(op):
            within.add(cost(program, chip, body), times)
    own.total = own.waiting + max(own.computing, own.hidden)
    own.add(within)
    return own


def collective(program: Program, op: Operation) -> str | None:
    """The kind of a collective operation; None for another. A TPU has some within a fusion or an asynchronous start."""
    base = op.kind.removesuffix("-start")
    if base in COLLECTIVES:
        return base
    inner = program.computations.get(op.called("calls") or "", []) if op.kind in ("fusion", "async-start") else []
    kinds = {each.kind.removesuffix("-start") for each in inner} & set(COLLECTIVES)
    if "all-reduce" in kinds and re.search(r"reduce-scatter", op.called("calls") or ""):
        return "reduce-scatter"
    return kinds.pop() if kinds else None


def _begun_before(program: Program, name: str, op: Operation) -> bool:
    """Whether an operation of a computation carries on, or ends, a collective one that another has begun."""
    given = (program.by_name[name].get(operand) for operand in op.operands)
    return op.kind == "fusion" and any(each and IN_FLIGHT.search(each.shape) for each in given)


def _sent(program: Program, op: Operation, kind: str, chip: Chip) -> Cost:
    """A collective operation. A ring of n devices moves (n - 1) / n of what it gathers or scatters, twice to reduce."""
    inner = next(
        (each for each in program.computations.get(op.called("calls") or "", [])
         if each.kind.removesuffix("-start") in COLLECTIVES), op,
    )  # fmt: skip
    axes, devices = program.along(inner)
    started = op.kind.endswith("-start") or op.name.startswith(BEGUN)
    # A fusion that a product is joined into gives the product, and what is gathered stays within it.
    shape = inner.shape if op.kind == "fusion" and inner.kind == kind else op.shape
    sizes = [bytes_of(f"{dtype}[{','.join(map(str, dims))}]") for dtype, dims, _ in shapes(shape)]
    # What is started returns its operands beside its results.
    size = (max(sizes, default=0.0) if len(sizes) > 1 else sum(sizes)) if started else sum(sizes)
    if started and kind in ("all-reduce", "all-to-all"):
        size = sum(sizes) / 2 if len(sizes) > 1 else size
    share = (devices - 1) / max(devices, 1)
    wire = {"all-reduce": 2 * share, "reduce-scatter": devices - 1, "collective-permute": 1}.get(kind, share) * size
    seconds = wire / chip.link
    made = Cost(sent={(kind, axes): size}, hidden=seconds if started else 0.0, waiting=0.0 if started else seconds)
    flops = program.product_flops(op.called("calls") or "") if op.kind == "fusion" else 0.0
    if flops:  # a product that XLA has joined with its collective runs beside it
        made.flops, made.computing = flops, flops / (chip.tflops * 1e12)
        made.hidden, made.waiting = seconds, 0.0
    return made


def _work(program: Program, name: str, op: Operation, chip: Chip) -> Cost:
    """An operation that computes or moves, or a kernel."""
    if op.kind == "custom-call" and (flops := kernel_flops(program, name, op)):
        seconds = flops / (chip.tflops * 1e12 * chip.attention)
        return Cost(flops=flops, computing=seconds, kernels=seconds)
    called = op.called("calls") if op.kind in ("fusion", "async-start") else None
    if called:
        flops, moved = program.product_flops(called), _fused_bytes(program, called)
    else:
        flops = program.flops(name, op) if op.kind in ("dot", "convolution") else 0.0
        moved = _bytes(program, name, op)
    return Cost(flops=flops, moved=moved, computing=max(flops / (chip.tflops * 1e12), moved / chip.bandwidth))


def _bytes(program: Program, name: str, op: Operation) -> float:
    operands = [bytes_of(program.by_name[name][o].shape) for o in op.operands if o in program.by_name[name]]
    if op.kind in ("copy-start", "slice-start"):  # returns where it goes to, and where it comes from
        return bytes_of(op.shape)
    if op.kind in WITHIN:
        return 2 * bytes_of(op.shape)
    if op.kind == "dynamic-update-slice":
        return 2 * sum(operands[1:2])
    return bytes_of(op.shape) + sum(operands)


def _fused_bytes(program: Program, name: str) -> float:
    """What a fusion reads and writes: of a stack that it takes or replaces one layer of, that layer."""
    ops, by_name = program.computations[name], program.by_name[name]
    users: dict[str, list[Operation]] = {}
    for op in ops:
        for operand in op.operands:
            users.setdefault(operand, []).append(op)

    def taken(source: Operation) -> float:
        total = 0.0
        for user in users.get(source.name, []):
            if user.kind == "bitcast":
                total += taken(user)
            elif user.kind in WITHIN:
                total += bytes_of(user.shape, everywhere="S(" not in source.shape)
            elif not (user.kind == "dynamic-update-slice" and user.operands[0] == source.name):
                return bytes_of(source.shape)
        return min(total, bytes_of(source.shape))

    def made(op: Operation) -> float:
        if op.kind == "tuple":
            return sum(made(by_name[o]) for o in op.operands if o in by_name)
        if op.kind == "bitcast" and op.operands[0] in by_name:
            return made(by_name[op.operands[0]])
        if op.kind == "dynamic-update-slice":
            replaced = by_name[op.operands[1]]
            return bytes_of(replaced.shape, everywhere=True) if "S(" not in op.shape else 0.0
        return bytes_of(op.shape)

    return sum(taken(op) for op in ops if op.kind == "parameter") + made(ops[-1])


def kernel_flops(program: Program, name: str, op: Operation) -> float:
    """Operations of an attention kernel, from the shapes of its queries and keys; 0 for another custom call.

    Forward there are two products of L x M scores, backward five.
    """
    if "tpu_custom_call" not in op.rest:
        return 0.0
    found = [shapes(program.by_name[name][o].shape) for o in op.operands if o in program.by_name[name]]
    # [rows, heads, tokens, size]; of one row XLA leaves the first axis out.
    arrays = [each[0][1] for each in found if each and each[0][0] in ("bf16", "f16") and len(each[0][1]) in (3, 4)]
    if len(arrays) < 2:
        return 0.0
    (*rows_and_heads, queries, size), (*_, keys, _) = arrays[:2]
    products = 5 if re.search(r"dkv|bwd", op.name + op.rest[:2000]) else 2
    return 2.0 * products * math.prod(rows_and_heads) * queries * keys * size


def mfu(model_flops: float, seconds: float, chips: int, chip: Chip) -> float:
    """Share of the chips' peak that the operations of the model alone are."""
    return model_flops / (seconds * chips * chip.tflops * 1e12) if seconds else math.nan
