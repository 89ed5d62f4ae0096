"""What training must know of a part of the model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stableavatar_jax.data.iterator import CheckpointableIterator
from stableavatar_jax.training.export import Exported
from stableavatar_jax.training.loop import Validate
from stableavatar_jax.training.run import Run
from stableavatar_jax.training.state import TrainState


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the model that can be trained, as functions of its own config."""

    names: tuple[str, ...]
    """The networks that are trained and exported, by their names in `models.avatar.PARTS`."""
    check: Callable[[Any], None]
    """Raises Mistake where data, weights and config do not fit together, from what is cheap to read."""
    prepare: Callable[[Any], Run]
    """The run of a config; nothing is allocated yet."""
    open_data: Callable[..., CheckpointableIterator]
    """`open_data(config, host=, hosts=)`: this process's rows of every batch."""
    make_validate: Callable[[Run], Validate]
    """What measures or shows what has been learned."""
    exported: Callable[[Run, TrainState], Exported]
    """What a state has to give to a model directory: the average, where there is one."""
