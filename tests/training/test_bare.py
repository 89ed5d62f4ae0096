"""What a machine with little installed can do: only jax, flax, optax, orbax, numpy and einops, and what these need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MISSING = (
    "tyro", "jaxtyping", "beartype", "grain", "tensorflow_datasets", "array_record", "av", "PIL", "librosa",
    "transformers", "tokenizers", "safetensors", "tqdm", "matplotlib", "tensorboardX", "convert",
)

BARE = f"""
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {MISSING}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
    command, environment = [sys.executable, "-c", BARE + script, *arguments], {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)


def test_training_runs(tmp_path):
    """Two steps, a checkpoint, and one more step from it; options are read without tyro."""
    script = """
import sys
from pathlib import Path
from stableavatar_jax.config import parse
from stableavatar_jax.training import dit, loop, run
from stableavatar_jax.training.config import TrainConfig
from tests.training import tiny
for steps in (2, 3):
    options = ["--run-dir", sys.argv[1], "--steps", str(steps), "--optimizer.learning-rate=2e-4", "--step.silent", "0"]
    config = parse(TrainConfig, options, tiny.config())
    assert config.optimizer.learning_rate == 2e-4 and config.step.silent == 0.0
    state = loop.train(dit.prepare(run.settle(config)), tiny.Synthetic())
assert int(state.step) == 3
"""
    done = run(script, str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step 2  loss" in done.stderr


@pytest.mark.parametrize(("options", "message"), [
    (["--steps", "many"], "steps is \"many\", int is needed"),
    (["--checkpoint-evry", "1"], "did you mean checkpoint_every"),
    (["--help"], "needs tyro"),
])
def test_options_without_tyro(options, message):
    done = run("from train import main; sys.exit(main())", "--config", "configs/train_1b.py", *options)
    assert done.returncode == 2 and message in done.stderr, done.stderr[-2000:]
