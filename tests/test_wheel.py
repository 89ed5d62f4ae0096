"""The package as others install it: what a wheel holds, and the demo made from it in any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "stableavatar_jax"
FOLDERS = {PACKAGE: PACKAGE, "convert": f"{PACKAGE}/convert", "configs": f"{PACKAGE}/configs"}
"""Folders of the checkout, and where a wheel has them."""


def run(*command: str | Path, folder: Path) -> str:
    """The command's output."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing of an earlier build is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder,
        folder / "source", folder=folder,
    )  # fmt: skip
    return next(folder.glob("*.whl"))


def test_a_wheel_holds_every_module_and_nothing_beside_the_package(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    modules = set()
    for here, there in FOLDERS.items():
        modules |= {f"{there}/{path.relative_to(ROOT / here)}" for path in (ROOT / here).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules, "see `packages` in pyproject.toml"
    assert {name.split("/")[0] for name in names} == {PACKAGE}
    for path in ("demo/model/dit.safetensors", "demo/assets/character.png", "world/rule.npz", "world/sentences.txt"):
        assert f"stableavatar_jax/{path}" in names
