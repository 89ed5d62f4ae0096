"""Models of the tables' rows that differ in what is trained: short trainings of the transformer from one start."""

import dataclasses
from pathlib import Path

import jax

from stableavatar_jax.checkpoint import load_params
from stableavatar_jax.config import read_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.avatar import abstract_params, part
from stableavatar_jax.models.config import Ablation, AvatarConfig
from stableavatar_jax.presets import load_preset
from stableavatar_jax.sharding import initialise
from stableavatar_jax.training import work
from stableavatar_jax.training.export import Exported, write_model
from stableavatar_jax.training.parts.config import TrainConfig
from stableavatar_jax.trees import flatten, unflatten
from stableavatar_jax.weights.directory import has_part


def trained(
    folder: Path, adapter: Ablation, start: Path | None, *, preset: str, records: Path | None, steps: int
) -> Path:
    """The model directory of an adapter, `folder/ADAPTER-STEPS`; what a stopped call left is gone on with.

    `preset` says how it is trained. It begins with the weights of `start`, but for the adapter's own, which are drawn
    from one seed. Raises Mistake.
    """
    name = f"{adapter}-{steps}"
    if has_part(folder / name / "dit"):
        return folder / name
    if start is None or records is None:
        raise Mistake(
            f"{adapter}: this row has a model of its own, which is trained on --records RECORDS, made by "
            "`python -m stableavatar_jax.world build` and `python -m stableavatar_jax.data precompute`"
        )
    if not has_part(folder / f"{name}.start" / "dit"):
        begin(start, folder / f"{name}.start", adapter)
    usual = load_preset(preset, TrainConfig)
    optimizer = dataclasses.replace(
        usual.optimizer, learning_rate=3e-3, warmup=min(50, steps), decay="linear", decay_start=steps // 2,
        decay_steps=steps - steps // 2,
    )  # fmt: skip
    config = dataclasses.replace(
        usual, checkpoint=folder / f"{name}.start", data=records, run_dir=folder / f"{name}.run", steps=steps,
        optimizer=optimizer,
    )  # fmt: skip
    if work.train(config):
        raise KeyboardInterrupt
    work.export(dataclasses.replace(config, export=folder / name))
    return folder / name


def begin(start: Path, folder: Path, adapter: Ablation) -> None:
    """Write the model directory that the training of an adapter begins with."""
    model = read_config(start, AvatarConfig)
    sizes = dataclasses.replace(model.dit.adapter, ablation=adapter)
    other = dataclasses.replace(model, dit=dataclasses.replace(model.dit, adapter=sizes))
    drawn = flatten(initialise(part(other, "dit"), jax.random.key(0)))
    shipped = flatten(load_params(start / "dit", abstract_params(part(model, "dit")), dtype="float32"))
    kept = {path: leaf for path, leaf in shipped.items() if not path.startswith("audio_adapter/")}
    write_model(folder, Exported({"dit": unflatten(drawn | kept)}, other), start)
