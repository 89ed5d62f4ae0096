"""A run's weights as a model directory that `sample.py` reads, and that can be moved."""

import contextlib
import dataclasses
import os
import shutil
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stableavatar_jax.checkpoint import save_params
from stableavatar_jax.config import FILE, read_config, write_config
from stableavatar_jax.data.kinds import NAMES, expect, kind
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.avatar import PARTS
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.sampling.defaults import DEFAULTS_FILE
from stableavatar_jax.training.run import Run
from stableavatar_jax.training.saving import Checkpoints, saved_steps
from stableavatar_jax.training.state import TrainState, Tree
from stableavatar_jax.weights.directory import has_part, part_file
from stableavatar_jax.weights.lora_writer import save_lora
from stableavatar_jax.whole import check_folder, check_output, whole

TOKENIZER = "tokenizer.json"


class Exported(NamedTuple):
    """What a run has to give to a model directory."""

    parts: Mapping[str, Tree]
    """Weights by the names in `models.avatar.PARTS`."""
    model: AvatarConfig
    """The networks, as these weights are to be read."""
    lora: Tree | None = None
    """The LoRA that was trained, which is merged into the weights too."""


def choose_step(folder: Path, asked: int | str) -> int:
    """The step of the checkpoint asked for, the last or one by its number; raises Mistake with those there are."""
    steps = saved_steps(folder)
    if not steps:
        raise Mistake(f"{folder}: no whole checkpoint to export; train on, or wait for the first (--checkpoint-every)")
    if asked == "last":
        return steps[-1]
    if asked not in steps:
        there = ", ".join(map(str, steps))
        raise Mistake(f"--step {asked}: {folder} has checkpoints of steps {there}; --keep N keeps more of them")
    return int(asked)


def check_model_directory(
    output: Path, parts: Mapping[str, object] | tuple[str, ...], run_dir: Path, start: Path | None = None
) -> None:
    """Raise Mistake where parts cannot be written to a model directory: it is something else, has them already, or lies
    in what the run began with (`start`), which may itself get the parts that it lacks.
    """
    found = kind(output)
    if found not in (None, "model"):
        raise Mistake(f"--export {output}: this is {NAMES[found]}; give a folder of its own for the model")
    if found is None and output.is_dir() and any(output.iterdir()):
        raise Mistake(f"--export {output}: there is something in it, and it is not a model directory; give another")
    for name in parts:
        if has_part(output / name):
            raise Mistake(f"--export {output}: it has a {name} already; remove that, or give another folder")
        check_output(output / name, folder=True, inputs=[run_dir])
    if start and os.path.realpath(output) != os.path.realpath(start):
        check_folder(output, inputs=[start])


def restore(run: Run, step: int) -> TrainState:
    """The state of a checkpoint."""
    with contextlib.closing(Checkpoints(run.config.run_dir)) as checkpoints:
        return checkpoints.restore(run.abstract, step)[0]


def write_model(
    output: Path, exported: Exported, start: Path | None, sampling: Mapping[str, Any] = types.MappingProxyType({})
) -> list[str]:
    """Write parts of a model and their place in its config.json; returns the names of the parts that it still lacks.

    The directory may hold other parts already, which stay as they are; those it lacks, and the tokenizer, are taken
    from the model directory that the run started from. `sampling` are the sampling defaults (`training.defaults`);
    without them those of that directory are taken.
    """
    output.mkdir(parents=True, exist_ok=True)
    model = exported.model
    if (output / FILE).exists():
        ours = {name: getattr(model, name) for name in exported.parts}
        model = dataclasses.replace(read_config(output, AvatarConfig), **ours)
    for name, params in exported.parts.items():
        save_params(output / name, params)
    if exported.lora:
        save_lora(output / "lora.safetensors", exported.lora)
    if start:
        expect(start, "model", "--checkpoint")
        for name in (*PARTS, TOKENIZER, *(() if sampling else (DEFAULTS_FILE,))):
            bring(start, name, output)
    if sampling:
        write_config(output, dict(sampling), DEFAULTS_FILE)
    write_config(output, model)
    return [name for name in PARTS if not has_part(output / name)]


def bring(start: Path, name: str, output: Path) -> None:
    """Bring a part or a file of one model directory into another that lacks it, where it is a part of its own."""
    there = part_file(start / name) or start / name
    if not there.exists() or has_part(output / name) or (output / name).exists():
        return
    source = there.resolve()  # what is linked is brought, not the link
    with whole(output / there.name, folder=source.is_dir()) as partial:
        if source.is_dir():
            shutil.copytree(source, partial, copy_function=link_or_copy)
        else:
            link_or_copy(source, partial)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """A second name for a file, which takes no room and stays when the first goes; a copy on another file system.

    Files of weights are never changed in place, so that two names of one are as good as two files.
    """
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
