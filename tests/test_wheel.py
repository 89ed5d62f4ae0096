"""The package as others install it: what a wheel holds, and the demo made from it in any folder."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from stableavatar_jax import media
from stableavatar_jax.demo.bundle import write_flac
from stableavatar_jax.demo.preset import SPEECH

ROOT = Path(__file__).parents[1]
PACKAGE = "stableavatar_jax"
FOLDERS = {PACKAGE: PACKAGE, "convert": f"{PACKAGE}/convert", "configs": f"{PACKAGE}/configs"}
"""Folders of the checkout, and where a wheel has them."""
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


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


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of a fresh environment with the wheel; its dependencies are those of the running one."""
    environment = tmp_path_factory.mktemp("fresh") / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, folder=wheel.parent)
    python = environment / "bin" / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel,
        folder=wheel.parent,
    )  # fmt: skip
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "running.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    assert str(environment) in run(python, "-c", "import stableavatar_jax as s; print(s.__file__)", folder=wheel.parent)
    return environment / "bin"


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> Path:
    """The first second of the recording that comes along."""
    path = tmp_path_factory.mktemp("sound") / "short.flac"
    write_flac(path, media.read_sound(SPEECH)[:16000])
    return path


def test_a_wheel_holds_every_module_and_nothing_beside_the_package(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    modules = set()
    for here, there in FOLDERS.items():
        modules |= {f"{there}/{path.relative_to(ROOT / here)}" for path in (ROOT / here).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules, "see `packages` in pyproject.toml"
    assert {name.split("/")[0] for name in names} == {PACKAGE}
    transformers = (f"demo/{name}/dit.safetensors" for name in ("model", "student"))
    for path in (*transformers, "demo/assets/character.png", "world/rule.npz", "world/sentences.txt"):
        assert f"stableavatar_jax/{path}" in names


def test_every_program_is_there():
    found = {point.name: point for point in entry_points(group="console_scripts") if point.name in SCRIPTS}
    assert found.keys() == SCRIPTS.keys()
    assert all(callable(point.load()) for point in found.values())


def check_video(path: Path) -> None:
    info = media.probe(path)
    assert (info.frames, info.height, info.width, info.sound) == (25, 384, 384, True)


def test_the_demo_from_an_empty_folder(installed, short, tmp_path):
    said = run(installed / "stableavatar-demo", "--audio", short, folder=tmp_path)
    assert "drawn cartoon characters" in said and "demo.mp4: the picture speaks the recording" in said
    check_video(tmp_path / "demo.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["demo.mp4"]


def test_the_demo_beside_folders_of_the_same_names(installed, short, tmp_path):
    """Python looks into the current folder first."""
    for name in ("configs", "convert"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError('taken for ours')\n")
    options = ("--audio", short, "--output", "a.mp4")
    run(installed / "python", "-m", "stableavatar_jax.demo", "make", *options, folder=tmp_path)
    check_video(tmp_path / "a.mp4")
