"""Eight virtual devices, in a process of their own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.virtual import virtual

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def on_eight(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Runs a module of this folder on eight devices, once; what it found, by the name of what it looked at."""
    found: dict[str, dict[str, Any]] = {}

    def run(module: str) -> dict[str, Any]:
        if module not in found:
            output = tmp_path_factory.mktemp(module) / "found.json"
            command = [sys.executable, "-m", f"tests.sharding.{module}", str(output)]
            options = {"cwd": ROOT, "env": virtual(8), "capture_output": True, "text": True, "timeout": 1500}
            done = subprocess.run(command, **options, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            found[module] = json.loads(output.read_text())
        return found[module]

    return run
