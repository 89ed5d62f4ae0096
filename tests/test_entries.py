"""Every command of every entry: its help, and what it says of a mistyped option before anything heavy is loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ENTRIES = [
    "stableavatar_jax.sampling.__main__",
    "stableavatar_jax.training.__main__",
    "stableavatar_jax.convert.commands",
    "stableavatar_jax.data.__main__",
    "stableavatar_jax.world.__main__",
    "stableavatar_jax.evaluation.__main__",
    "stableavatar_jax.demo.__main__",
]
HEAVY = ["jax", "flax", "orbax", "transformers", "tensorflow", "librosa", "av", "litert", "matplotlib"]
# Runs main() of an entry and of each of its commands in one process, and says what was printed and loaded.
SCRIPT = f"""
import contextlib, importlib, io, json, re, sys
main = importlib.import_module(sys.argv[1]).main
def call(*argv):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([*argv])
    return status, out.getvalue(), err.getvalue()
seen = {{"": call("--help")}}
commands = re.findall(r"(?m)^  ([a-z]+)  ", seen[""][1].partition("\\ncommands (")[2])
seen |= {{name: call(name, "--help") for name in commands}}
wrong = {{name: call(*filter(None, [name]), "--zzzzzz") for name in commands or [""]}}
print(json.dumps([seen, wrong, [name for name in {HEAVY} if name in sys.modules]]))
"""


@pytest.fixture(scope="module", params=ENTRIES)
def told(request):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, request.param],
        capture_output=True, text=True, cwd=Path(__file__).parents[1], env={"COLUMNS": "80", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_fits_a_screen_and_its_examples_can_be_copied(told):
    for name, (status, out, err) in told[0].items():
        assert status == 0 and err == "" and out.startswith("usage: "), name
        wide = [line for line in out.splitlines() if len(line) > 80]
        assert not wide, (name, wide)


def test_a_mistyped_option_is_one_line_before_anything_heavy_is_loaded(told):
    for name, (status, out, err) in told[1].items():
        assert (status, out, err.count("\n")) == (2, "", 1) and err.startswith("error: --zzzzzz is not an option"), name
    assert told[2] == []
