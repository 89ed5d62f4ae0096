"""Measurements as a printed table, as JSON, and as one page with its pictures inside, to be sent to a colleague."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax import media
from stableavatar_jax.evaluation.gates import Gate, missed
from stableavatar_jax.shapes import UInt8
from stableavatar_jax.whole import whole

Row = Mapping[str, float]
Picture = UInt8[np.ndarray, "H W 3"]
STYLE = (
    "body{font:15px sans-serif;max-width:1250px;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:4px 8px;text-align:right}td:first-child,th:first-child{text-align:left}"
    ".missed{background:#fdd}img{max-width:100%}"
)


def columns(rows: Mapping[str, Row]) -> list[str]:
    """Names of all columns, in the order in which rows have them."""
    return list(dict.fromkeys(name for row in rows.values() for name in row))


def means(rows: Mapping[str, Row]) -> dict[str, float]:
    """The mean of every column, without NaN; NaN where there is nothing else."""
    found = {name: np.array([row.get(name, np.nan) for row in rows.values()]) for name in columns(rows)}
    return {name: float(np.mean(c[np.isfinite(c)])) if np.isfinite(c).any() else np.nan for name, c in found.items()}


def shown(value: float) -> str:
    """Two places, three significant ones of a small number; nothing for what was not measured."""
    return "" if np.isnan(value) else f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def table(rows: Mapping[str, Row]) -> str:
    """Rows by their names."""
    first, names = max(map(len, rows)), columns(rows)
    widths = {name: max(len(name), 7) for name in names}
    head = " " * first + "".join(f"  {name:>{widths[name]}}" for name in names)
    body = [
        f"{name:{first}}" + "".join(f"  {shown(row.get(key, np.nan)):>{widths[key]}}" for key in names)
        for name, row in rows.items()
    ]
    return "\n".join([head, *body])


def verdict(gates: Sequence[Gate], values: Row) -> str:
    """A line for every gate: the value measured, the value needed, and whether it is reached."""
    lines = (f"{gate.measure:14} {values[gate.measure]:7.3g}   {gate!s:16}" for gate in gates)
    failed = missed(gates, values)
    return "\n".join(
        f"{line}{'MISSED' if gate.measure in failed else 'passed'}" for line, gate in zip(lines, gates, strict=True)
    )


def finish(
    output: Path,
    rows: Mapping[str, Row],
    values: Row,
    gates: Sequence[Gate],
    about: Mapping[str, Any],
    pictures: Mapping[str, Picture],
) -> int:
    """Write `report.json`, `report.html` and `NAME.png` for every picture into a folder, and print table and verdict.

    Returns the status: 1 where a gate is missed.
    """
    failed = missed(gates, values)
    judged = [
        {"measure": g.measure, "value": values[g.measure], "needed": str(g), "passed": g.measure not in failed}
        for g in gates
    ]
    content = {"gates": judged, "measured": dict(values), "rows": {k: dict(row) for k, row in rows.items()}, **about}
    output.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        media.write_picture(output / f"{name}.png", picture)
    with whole(output / "report.json") as partial:
        partial.write_text(json.dumps(_plain(content), indent=1) + "\n")
    with whole(output / "report.html") as partial:
        files = {name: (output / f"{name}.png").read_bytes() for name in pictures}
        partial.write_text(page({**rows, "all": values}, judged, about, files))
    print(table({**rows, "all": values}), "", sep="\n")
    print(*([verdict(gates, values)] if gates else []), output / "report.html", sep="\n")
    return int(bool(failed))


def page(
    rows: Mapping[str, Row],
    judged: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    pictures: Mapping[str, bytes],
) -> str:
    """The report as one HTML file that needs no other."""
    names = columns(rows)
    body = [[name, *(shown(row.get(key, np.nan)) for key in names)] for name, row in rows.items()]
    said = ", ".join(f"{name}: {value}" for name, value in about.items())
    parts = [f"<h1>Report</h1><p>{html.escape(said)}</p>", _table(["", *names], body)]
    if judged:
        gates = [[g["measure"], shown(g["value"]), g["needed"], "passed" if g["passed"] else "MISSED"] for g in judged]
        parts.append("<h2>Gates</h2>" + _table(["", "measured", "needed", ""], gates))
    for name, content in pictures.items():
        data = base64.b64encode(content).decode()
        parts.append(f'<h2>{html.escape(name)}</h2><img alt="{html.escape(name)}" src="data:image/png;base64,{data}">')
    return f'<!doctype html><meta charset="utf-8"><title>Report</title><style>{STYLE}</style>' + "\n".join(parts) + "\n"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    rows = [
        f'<tr{" class=missed" if "MISSED" in row else ""}>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in body
    ]
    return f"<table><tr>{top}</tr>{''.join(rows)}</table>"


def _plain(value: Any) -> Any:
    """For JSON, which has no NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
