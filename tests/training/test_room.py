"""The room of training: options without JAX, networks in models/ alone, and files that can be read in one go."""

import ast
import subprocess
import sys
from pathlib import Path

import stableavatar_jax.training
from stableavatar_jax.training.parts.configs import CONFIGS
from stableavatar_jax.training.work import PARTS

ROOM = Path(stableavatar_jax.training.__path__[0])
HEAVY = {"jax", "flax", "optax", "orbax", "transformers", "tensorflow", "librosa", "av", "PIL"}


def test_options_are_read_without_what_training_needs():
    script = (
        "import sys; from stableavatar_jax.training.__main__ import main;"
        "assert main(['--part', 'vae', '--lr', '1']) == 2;"
        f"print(*sorted({HEAVY} & set(sys.modules)))"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert child.stdout.split() == [] and "did you mean --optimizer.learning-rate" in child.stderr


def test_networks_are_none_of_its_business():
    for path in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name and name.startswith("flax.linen")], path


def test_every_part_has_options_and_work():
    assert CONFIGS.keys() == PARTS.keys()
    assert all(CONFIGS[name]().part == name for name in CONFIGS)
