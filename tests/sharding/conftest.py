"""Eight virtual devices, in a process of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ONE_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
"""Virtual devices that share two cores may take two collectives in another order each, and then wait for ever."""


@pytest.fixture(scope="session")
def on_eight(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Runs a module of this folder on eight devices, once; what it found, by the name of what it looked at."""
    found: dict[str, dict[str, Any]] = {}

    def run(module: str) -> dict[str, Any]:
        if module not in found:
            output = tmp_path_factory.mktemp(module) / "found.json"
            env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8", "XLA_FLAGS": ONE_ORDER}
            command = [sys.executable, "-m", f"tests.sharding.{module}", str(output)]
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1500, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            found[module] = json.loads(output.read_text())
        return found[module]

    return run
