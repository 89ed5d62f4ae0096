"""How a model is sampled, kept with its weights: `sampling.json` of a model directory. Read without JAX."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from stableavatar_jax.config import read_config, write_config
from stableavatar_jax.options import peek
from stableavatar_jax.sampling.config import Denoising, Frame, SampleConfig

T = TypeVar("T", bound=SampleConfig)

DEFAULTS_FILE = "sampling.json"


@dataclass(frozen=True, kw_only=True)
class SamplingDefaults:
    """How a model is sampled unless options say otherwise: `sampling.json` of a model directory."""

    prompt: str | None = None
    """Prompt of the kind the model was trained with."""
    negative_prompt: str | None = None
    """What `cfg` guidance steers away from; empty for a model that never read such a text."""
    frame: Frame = field(default_factory=Frame)
    """Size and rate of the videos it was trained on."""
    denoising: Denoising = field(default_factory=Denoising)
    """Window, overlap, shift, steps and guidance it works with."""


def read_defaults(directory: Path) -> SamplingDefaults | None:
    """The sampling defaults of a model directory, None where it has none; raises Mistake for a file that is wrong."""
    if not (directory / DEFAULTS_FILE).is_file():
        return None
    return read_config(directory, SamplingDefaults, DEFAULTS_FILE)


def write_defaults(directory: Path, defaults: SamplingDefaults) -> None:
    """Write the sampling defaults of a model directory."""
    write_config(directory, defaults, DEFAULTS_FILE)


def of_models(config: T, argv: Sequence[str]) -> T | None:
    """The config with the defaults that a checkpoint on a command line brings along, and those of a transformer of
    another model directory after them; None without either. A preset takes their place."""
    folders = [Path(folder) for option in ("--checkpoint", "--transformer") if (folder := peek(argv, option))]
    return functools.reduce(with_defaults, folders, config) if folders else None


def with_defaults(config: T, directory: Path) -> T:
    """The config with the frame, denoising and prompt of a model directory's `sampling.json`, where there is one."""
    told = read_defaults(directory)
    return config if told is None else applied(config, told)


def applied(config: T, told: SamplingDefaults) -> T:
    """The config with a model's sampling defaults."""
    prompts: dict[str, Any] = {"prompt": told.prompt, "negative_prompt": told.negative_prompt}
    inputs = dataclasses.replace(config.inputs, **{name: text for name, text in prompts.items() if text is not None})
    return dataclasses.replace(config, inputs=inputs, frame=told.frame, denoising=told.denoising)
