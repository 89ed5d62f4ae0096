"""Measurements as a printed table and as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.evaluation.gates import Gate, missed
from stableavatar_jax.whole import whole

Row = Mapping[str, float]


def means(rows: Mapping[str, Row]) -> dict[str, float]:
    """The mean of every column, without NaN; NaN where there is nothing else."""
    columns = {name: np.array([row[name] for row in rows.values()]) for name in next(iter(rows.values()))}
    return {name: float(np.mean(c[np.isfinite(c)])) if np.isfinite(c).any() else np.nan for name, c in columns.items()}


def table(rows: Mapping[str, Row]) -> str:
    """Rows by their names, numbers to two places."""
    first = max(map(len, rows))
    columns = {name: max(len(name), 7) for name in next(iter(rows.values()))}
    head = " " * first + "".join(f"  {name:>{width}}" for name, width in columns.items())
    body = [
        f"{name:{first}}" + "".join(f"  {row[key]:>{width}.2f}" for key, width in columns.items())
        for name, row in rows.items()
    ]
    return "\n".join([head, *body])


def verdict(gates: Sequence[Gate], values: Row) -> str:
    """A line for every gate: the value measured, the value needed, and whether it is reached."""
    lines = (f"{gate.measure:14} {values[gate.measure]:7.2f}   {gate!s:16}" for gate in gates)
    failed = missed(gates, values)
    return "\n".join(
        f"{line}{'MISSED' if gate.measure in failed else 'passed'}" for line, gate in zip(lines, gates, strict=True)
    )


def finish(output: Path, rows: Mapping[str, Row], values: Row, gates: Sequence[Gate], about: Mapping[str, Any]) -> int:
    """Write `report.json` into a folder, print table and verdict, and return the status: 1 where a gate is missed."""
    failed = missed(gates, values)
    judged = [
        {"measure": g.measure, "value": values[g.measure], "needed": str(g), "passed": g.measure not in failed}
        for g in gates
    ]
    content = {"gates": judged, "measured": dict(values), "rows": {k: dict(row) for k, row in rows.items()}, **about}
    output.mkdir(parents=True, exist_ok=True)
    with whole(output / "report.json") as partial:
        partial.write_text(json.dumps(_plain(content), indent=1) + "\n")
    print(table({**rows, "all": values}), "", verdict(gates, values), output / "report.json", sep="\n")
    return int(bool(failed))


def _plain(value: Any) -> Any:
    """For JSON, which has no NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
