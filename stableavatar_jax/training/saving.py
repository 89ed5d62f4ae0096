"""Checkpoints of a run: written beside the training, whole or not at all, the last and the best kept.

`RUN/checkpoints/STEP` holds what is trained, the optimizer, the average and the place in the data; `RUN/frozen` holds,
once, the weights that do not change.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as managers

from stableavatar_jax.checkpoint import load_params, save_params
from stableavatar_jax.errors import Mistake
from stableavatar_jax.training.state import TrainState

TEMPORARY = ".orbax-checkpoint-tmp"  # in the name of a folder that is being written; renamed when whole



class Checkpoints:
    """The checkpoints of a run directory. Saving returns at once; errors of writing are raised at the next call."""

    def __init__(self, folder: Path, keep: int = 1):
        self.folder = folder.absolute()
        keeping = [managers.LatestN(n=keep), managers.BestN(get_metric_fn=lambda m: m["loss"], reverse=True, n=1)]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy(keeping),
            best_fn=lambda metrics: metrics["loss"],
            best_mode="min",
        )
        self.manager = ocp.CheckpointManager(self.folder / "checkpoints", options=options)

    def clear(self) -> None:
        """Remove what a killed run left half-written. (Orbax's own way does it while the next save is under way.)"""
        if jax.process_index() == 0:
            for leftover in (self.folder / "checkpoints").glob(f"*{TEMPORARY}*"):
                shutil.rmtree(leftover)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("cleared")

    @property
    def latest(self) -> int | None:
        """Step of the last whole checkpoint."""
        return self.manager.latest_step()

    @property
    def best(self) -> int | None:
        """Step of the checkpoint with the least loss."""
        return self.manager.best_step()

    def save(self, state: TrainState, data: Mapping[str, Any], loss: float) -> None:
        """Start to write a checkpoint, `loss` being the mean since the one before; `data` is the iterator's state."""
        step = int(state.step)
        if step == self.latest:
            return
        with self._writing():
            if state.frozen and not (self.folder / "frozen").exists():
                save_params(self.folder / "frozen", state.frozen)
            self.manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(_changing(state)), data=ocp.args.JsonSave(dict(data))
                ),
                metrics={"loss": loss},
            )

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
                frozen = load_params(self.folder / "frozen", frozen, shardings=shardings)
        except Exception as error:  # orbax and tensorstore raise many kinds
            first = (str(error).splitlines() or [""])[0][:300]
            folder = self.folder / "checkpoints" / str(step)
            raise Mistake(
                f"{folder}: cannot be read ({type(error).__name__}: {first}); remove it to go on from the one before, "
                "or start with a new --run-dir"
            ) from error
        state = TrainState(frozen=frozen, **saved["state"])
        return state, saved["data"]

    def wait(self) -> None:
        """Return when all is written."""
        with self._writing():
            self.manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and let the writing threads go."""
        self.wait()
        self.manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # from this save, or from the one before, which failed in the background
            first = (str(error).splitlines() or [""])[0][:300]
            kept = f"the last whole checkpoint is of step {self.latest}" if self.latest else "none is whole yet"
            raise Mistake(
                f"{self.folder}: a checkpoint could not be written ({type(error).__name__}: {first}); {kept}. Free "
                "some space there and give the same command again"
            ) from error


def _changing(state: TrainState) -> dict[str, Any]:
    """What differs from checkpoint to checkpoint."""
    return {"step": state.step, "params": state.params, "optimizer": state.optimizer, "ema": state.ema}
