"""A folder given for the wrong option is called what it is, and the option that was meant is named."""

import json

import pytest

from stableavatar_jax.data.kinds import NAMES, expect, kind
from stableavatar_jax.errors import Mistake


@pytest.fixture
def folders(tmp_path):
    made = {
        "records": ("records.json", {}), "clips": ("clips.json", []), "model": ("config.json", {"dit": {}}),
        "run": ("config.json", {"run_dir": "a", "model": {}}),
    }  # fmt: skip
    for name, (file, content) in made.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(content))
    return {name: tmp_path / name for name in made}


@pytest.mark.parametrize("wanted", NAMES)
def test_every_kind_for_every_other(folders, wanted):
    assert expect(folders[wanted], wanted, "--given") == folders[wanted]
    for name, path in folders.items():
        assert kind(path) == name
        if name != wanted:
            with pytest.raises(Mistake, match=f"--given {path}: {NAMES[wanted]} is needed, this is {NAMES[name]}[;,] "):
                expect(path, wanted, "--given")


def test_what_was_meant(folders, tmp_path):
    told = {("clips", "records"): "give it as --clips, or make records", ("run", "model"): "--export",
            ("records", "clips"): "which --data takes; ", ("model", "run"): "which --checkpoint takes; "}  # fmt: skip
    for (found, wanted), advice in told.items():
        with pytest.raises(Mistake, match=advice):
            expect(folders[found], wanted, "--given")
    (tmp_path / "weights.pt").touch()
    with pytest.raises(Mistake, match="this is a file; `python -m convert import"):
        expect(tmp_path / "weights.pt", "model", "--checkpoint")
    with pytest.raises(Mistake, match="there is nothing at this path"):
        expect(tmp_path / "nowhere", "records", "--data")
    with pytest.raises(Mistake, match=r"this folder is not one \(it has no clips.json\)"):
        expect(tmp_path, "clips", "--clips")
