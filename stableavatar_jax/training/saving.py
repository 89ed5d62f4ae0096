"""Checkpoints of a run: written beside the training, whole or not at all, the last ones kept.

`RUN/checkpoints/STEP` holds what is trained, the optimizer, the average and the place in the data; `RUN/frozen` holds,
once, the weights that do not change.
"""

import contextlib
import functools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from stableavatar_jax import hosts
from stableavatar_jax.checkpoint import load_params, quiet, save_params
from stableavatar_jax.errors import Mistake
from stableavatar_jax.training.state import TrainState

TEMPORARY = ".orbax-checkpoint-tmp"  # in the name of a folder that is being written; renamed when whole
FOLDER, FROZEN = "checkpoints", "frozen"


def saved_steps(folder: Path) -> list[int]:
    """Steps of a run directory's whole checkpoints, in order."""
    place = folder / FOLDER
    return sorted(int(each.name) for each in place.iterdir() if each.name.isdigit()) if place.is_dir() else []


class Checkpoints:
    """The checkpoints of a run directory. Saving returns at once; errors of writing are raised at the next call.

    Nothing is made before the first is saved.
    """

    def __init__(self, folder: Path, keep: int = 1):
        self.folder, self.keep = folder.absolute(), keep

    @functools.cached_property
    def manager(self) -> ocp.CheckpointManager:
        """Orbax's, which makes the folder."""
        options = ocp.CheckpointManagerOptions(preservation_policy=managers.LatestN(n=self.keep))
        return ocp.CheckpointManager(self.folder / FOLDER, options=options)

    def clear(self) -> None:
        """Remove what a killed run left half-written. (Orbax's own way does it while the next save is under way.)"""
        if hosts.is_first():
            for leftover in (self.folder / FOLDER).glob(f"*{TEMPORARY}*"):
                shutil.rmtree(leftover)
            if not saved_steps(self.folder) and (self.folder / FROZEN).is_dir():
                shutil.rmtree(self.folder / FROZEN)  # the next attempt may freeze other weights
        hosts.meet("cleared")

    @property
    def latest(self) -> int | None:
        """Step of the last whole checkpoint."""
        return self.manager.latest_step() if (self.folder / FOLDER).is_dir() else None

    def save(self, state: TrainState, data: Mapping[str, Any]) -> None:
        """Start to write a checkpoint; `data` is the iterator's state."""
        step = int(state.step)
        if step == self.latest:
            return
        with self._writing():
            if state.frozen and not (self.folder / FROZEN).exists():
                save_params(self.folder / FROZEN, state.frozen)
            args = ocp.args.Composite(
                state=ocp.args.StandardSave(_changing(state)), data=ocp.args.JsonSave(dict(data))
            )
            self.manager.save(step, args=args)

    def restore(self, abstract: TrainState, step: int | None = None) -> tuple[TrainState, dict[str, Any]]:
        """The state of a checkpoint (default: the last), each leaf in the abstract leaf's sharding, and the iterator's.

        Raises Mistake where it cannot be read.
        """
        step = self.latest if step is None else step
        if step is None:
            raise Mistake(f"{self.folder}: no whole checkpoint to go on from")
        args = ocp.args.Composite(state=ocp.args.StandardRestore(_changing(abstract)), data=ocp.args.JsonRestore())
        try:
            saved = self.manager.restore(step, args=args)
            frozen = abstract.frozen
            if frozen:
                shardings = jax.tree.map(lambda leaf: leaf.sharding, frozen)
                frozen = load_params(self.folder / FROZEN, frozen, shardings=shardings)
        except Exception as error:  # orbax and tensorstore raise many kinds
            folder, found = self.folder / FOLDER / str(step), f"{type(error).__name__}: {hosts.first_line(error)}"
            raise Mistake(
                f"{folder}: cannot be read ({found}); remove it to go on from the one before, or start with a new "
                "--run-dir"
            ) from error
        state = TrainState(frozen=frozen, **saved["state"])
        return state, saved["data"]

    def wait(self) -> None:
        """Return when all is written."""
        with self._writing():
            self.manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and let the writing threads go."""
        if "manager" in vars(self):
            self.wait()
            self.manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with quiet():
                yield
        except Exception as error:  # from this save, or from the one before, which failed in the background
            found = f"a checkpoint could not be written ({type(error).__name__}: {hosts.first_line(error)})"
            raise Mistake(f"{self.folder}: {found}; {self.advice()}") from error

    def advice(self) -> str:
        """How to go on where something could not be written."""
        kept = f"the last whole checkpoint is of step {self.latest}" if self.latest else "no checkpoint is whole yet"
        return f"{kept}. Free some space there and give the same command again"

    def lost(self) -> str:
        """How to go on where another process has died."""
        steps = saved_steps(self.folder)  # orbax would ask the process that has died
        kept = f"the last whole checkpoint is of step {steps[-1]}" if steps else "no checkpoint is whole yet"
        return f"{kept}. Start all processes again with the same command"


def _changing(state: TrainState) -> dict[str, Any]:
    """What differs from checkpoint to checkpoint."""
    return {"step": state.step, "params": state.params, "optimizer": state.optimizer, "ema": state.ema}
