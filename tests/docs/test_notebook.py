"""The notebook: every code cell runs in order in one namespace, as in Jupyter, with less sound and fewer steps."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from stableavatar_jax import media

NOTEBOOK = Path(__file__).parents[2] / "docs" / "demo.ipynb"
LESS = {"SECONDS": 0.4, "STEPS": 1}


@pytest.fixture(scope="module")
def cells():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


@pytest.fixture
def shown(monkeypatch):
    """What the cells display: IPython, which Jupyter brings along, is not needed here."""
    shown = []
    display = ModuleType("IPython.display")
    for kind in ("Image", "Video"):
        setattr(display, kind, lambda data, kind=kind, **options: SimpleNamespace(kind=kind, data=data, **options))
    display.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def test_no_outputs_are_kept(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_every_cell_runs(cells, shown, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {number}", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", []):
                assert set(LESS) <= set(names)
                names |= LESS
    assert [each.kind for each in shown] == ["Image", "Video", "Video"]
    assert "0.4 s of sound" in (printed := capsys.readouterr().out) and "windows: 1 of 1" in printed
    first, second = (np.stack(list(media.read_video(tmp_path / each.data))) for each in shown[1:])
    assert first.shape == second.shape == (10, 384, 384, 3) and (first != second).any()
    assert len(media.read_sound(tmp_path / "talk.mp4")) == pytest.approx(6400, abs=1024)
