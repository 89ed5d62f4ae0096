"""Configs: written and read back equal, and every mistake named with its place."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from stableavatar_jax.config import from_json, read_config, to_json, write_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.presets import FromPreset


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """A network."""

    num_heads: int = 12
    """Heads."""
    eps: float = 1e-6
    """Added to variances."""
    patch: tuple[int, int, int] = (1, 2, 2)
    """Latent frames, rows and columns of a token."""
    mode: Literal["full", "project"] = "full"
    """Which adapter."""

    def __post_init__(self):
        if self.num_heads < 1:
            raise ValueError(f"num_heads is {self.num_heads}, at least 1 is needed")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Networks."""

    dit: DiTConfig = field(default_factory=DiTConfig)
    """The transformer."""
    steps: tuple[float, ...] = ()
    """Any number of floats."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Make something."""

    model: FromPreset[ModelConfig] = field(default_factory=ModelConfig)
    """The networks."""
    output: Path = Path("out")
    """Where it goes."""
    seed: int | None = None
    """Seed; none means a new one."""
    fast: bool = False
    """Less work."""
    scales: dict[str, float] = field(default_factory=dict)
    """By name."""
    guidance: DiTConfig | None = None
    """Another nested one."""


def test_json_undoes_itself(tmp_path):
    dit = DiTConfig(num_heads=3, eps=1.0, patch=(1, 1, 1), mode="project")
    run = RunConfig(model=ModelConfig(dit=dit, steps=(1.0, 0.5)), seed=3, scales={"a": 2.0}, guidance=dit)
    for value in (run, RunConfig()):
        write_config(tmp_path, value)
        assert read_config(tmp_path, RunConfig) == value
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_what_is_absent_has_its_default_and_integers_are_floats():
    assert from_json(ModelConfig, {"steps": [1, 0.5]}) == ModelConfig(steps=(1.0, 0.5))
    assert isinstance(from_json(ModelConfig, {"steps": [1]}).steps[0], float)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"model": {"dit": {"num_head": 1}}}, "num_head is not a key of DiTConfig; did you mean model.dit.num_heads?"),
        ({"zzz": 1}, "zzz is not a key of RunConfig; the keys are model, output, seed"),
        ({"model": {"dit": {"num_heads": "12"}}}, 'model.dit.num_heads is "12", int is needed'),
        ({"model": {"dit": {"num_heads": True}}}, "model.dit.num_heads is true, int is needed"),
        ({"model": {"dit": {"num_heads": 1.0}}}, "model.dit.num_heads is 1.0, int is needed"),
        ({"model": {"dit": {"num_heads": 0}}}, "model.dit: num_heads is 0, at least 1 is needed"),
        ({"model": {"dit": {"eps": False}}}, "model.dit.eps is false, float is needed"),
        ({"model": {"dit": {"eps": None}}}, "model.dit.eps is null, float is needed"),
        ({"model": {"dit": {"mode": "ful"}}}, 'mode is "ful", one of full, project is needed; did you mean full'),
        ({"model": {"dit": {"patch": [1, 2]}}}, "model.dit.patch has 2 values, 3 are needed"),
        ({"model": {"dit": {"patch": [1, 2, "2"]}}}, 'model.dit.patch[2] is "2", int is needed'),
        ({"model": {"steps": 1}}, "model.steps is 1, tuple[float, ...] is needed"),
        ({"model": []}, "model is [], an object with the fields of ModelConfig is needed; {} stands for its defaults"),
        ({"fast": 1}, "fast is 1, bool is needed"),
        ({"seed": "x"}, 'seed is "x", int is needed'),
        ({"scales": {"a": "b"}}, 'scales.a is "b", float is needed'),
        ({"guidance": {"nmu_heads": 1}}, "guidance.nmu_heads is not a key"),
        ([], "config.json is [], an object"),
    ],
)
def test_mistakes_are_named_with_file_and_key(tmp_path, plain, message):
    (tmp_path / "config.json").write_text(json.dumps(plain))
    with pytest.raises(Mistake) as error:
        read_config(tmp_path, RunConfig)
    assert message in str(error.value) and str(tmp_path / "config.json") in str(error.value)


def test_a_missing_key_without_default():
    @dataclass(frozen=True)
    class Needs:
        """Needs a value."""

        value: int

    with pytest.raises(Mistake, match="value is missing and has no default"):
        from_json(Needs, {})


def test_files_that_are_no_config(tmp_path):
    with pytest.raises(Mistake, match="no such file.*python -m convert import"):
        read_config(tmp_path, RunConfig)
    for text, message in (("{", "not valid JSON"), ('{"fast": true, "fast": false}', "appears twice"), ("", "valid")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(Mistake, match=message):
            read_config(tmp_path, RunConfig)


def test_to_json_is_plain():
    assert to_json(ModelConfig(steps=(1.0,)))["steps"] == [1.0]
    assert to_json(RunConfig())["output"] == "out"


def test_a_file_is_no_model_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Mistake, match="file/config.json: cannot be read .Not a directory"):
        read_config(tmp_path / "file", RunConfig)
