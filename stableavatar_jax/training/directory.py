"""The directory of a run: the options it began with, and whether it may go on with others."""

import dataclasses
import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import traverse_util

from stableavatar_jax import hosts
from stableavatar_jax.config import FILE, read_config, to_json, write_config
from stableavatar_jax.data.kinds import NAMES, expect, kind
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.sampling.defaults import DEFAULTS_FILE
from stableavatar_jax.training.config import RunConfig
from stableavatar_jax.training.saving import saved_steps


def settle(config: RunConfig) -> Any:
    """The config with the model that its checkpoint says, and paths that hold from anywhere.

    A run that has saved nothing may begin with any options. Raises Mistake where one that has is to go on with options
    that would make it another run, where weights are missing, and where the run directory is something else.
    """
    config = with_paths(config)
    if (found := kind(config.run_dir)) not in (None, "run"):
        raise Mistake(f"--run-dir {config.run_dir}: this is {NAMES[found]}; give a folder of its own")
    if config.checkpoint:
        model = read_config(expect(config.checkpoint, "model", "--checkpoint"), AvatarConfig)
        config = dataclasses.replace(config, model=model)
    elif config.draws_frozen and not config.random_weights:
        raise Mistake(
            "--checkpoint is missing: weights that this run does not train would be random; give a model directory, "
            "or --random-weights for a smoke test"
        )
    if not saved_steps(config.run_dir):
        return config
    before, now = (_told_apart(c) for c in (read_config(config.run_dir, type(config)), config))
    changed = [f"{key} was {_short(before.get(key))}, now {_short(now.get(key))}" for key in sorted(before | now)
               if before.get(key) != now.get(key)]
    if changed:
        raise Mistake(
            f"{config.run_dir / FILE}: the run began otherwise: {'; '.join(changed)}; go on with the same options, or "
            "give another --run-dir"
        )
    return config


def write_own(config: RunConfig, sampling: Mapping[str, Any] = types.MappingProxyType({})) -> None:
    """Write down the options that a run begins with, and the sampling defaults of its model where they are known."""
    if hosts.is_first() and not saved_steps(config.run_dir):
        write_config(config.run_dir, config)
        if sampling:
            write_config(config.run_dir, dict(sampling), DEFAULTS_FILE)


def read_own(folder: Path, classes: Mapping[str, type[RunConfig]]) -> Any:
    """The options that a run began with; `classes` are those of the parts that can be trained. Raises Mistake."""
    expect(folder, "run", "--run-dir")
    plain = json.loads((folder / FILE).read_text())
    config = read_config(folder, classes.get(plain.get("part", "dit"), RunConfig))
    return dataclasses.replace(config, run_dir=folder)


def with_paths(value: Any) -> Any:
    """A config whose paths are absolute: a run may go on from another folder."""
    changed = {}
    for each in dataclasses.fields(value):
        inner = getattr(value, each.name)
        if isinstance(inner, Path) and each.name != "run_dir":
            changed[each.name] = inner.absolute()
        elif dataclasses.is_dataclass(inner):
            changed[each.name] = with_paths(inner)
    return dataclasses.replace(value, **changed)


def _told_apart(config: RunConfig) -> dict[str, Any]:
    """The options that make a run what it is, by their names on the command line."""
    flat = traverse_util.flatten_dict(to_json(config), sep=".")
    free = tuple(f"{name}." for name in config.FREE)
    kept = {key: value for key, value in flat.items() if not f"{key}.".startswith(free)}
    if config.checkpoint:
        kept["checkpoint"] = str(config.checkpoint.resolve())  # by whatever path it is reached
    return kept


def _short(value: Any) -> str:
    return text if len(text := str(value)) <= 80 else f"{text[:77]}..."
