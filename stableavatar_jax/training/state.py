"""What a run carries from step to step: what is trained, what is frozen, the optimizer, and an average.

The DiT's variables are cut in two by the path of each leaf: trained leaves are float32 master weights with an optimizer
and an average, frozen ones stand in the compute dtype with neither.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from stableavatar_jax.models import lora as loras
from stableavatar_jax.models.config import LoRAConfig
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.optimizer import make_optimizer
from stableavatar_jax.training.parts.config import Selection

Tree = dict[str, Any]

SELECTIONS: dict[str, Callable[[str], bool]] = {
    "paper": lambda path: "attention/" in path or path.startswith("params/audio_adapter/"),
    "release": lambda path: path.startswith(("params/blocks/", "params/audio_adapter/")),
    "adapter": lambda path: "audio" in path,
    "lora": lambda path: "audio" in path or path.startswith("lora/") and not path.endswith("/scale"),
    "lora_alone": lambda path: path.startswith("lora/") and not path.endswith("/scale"),
    "all": lambda path: True,
}
"""Which variables are trained, by path (`params/blocks/ffn/up/kernel`): attention and adapter; every block and the
adapter; the audio modules (adapter, audio keys and values); LoRA and the audio modules; LoRA alone; all."""


@flax.struct.dataclass
class TrainState:
    """State of a run after `step` steps. `params` and `frozen` together are the DiT's variables.

    Leaves are arrays, or what stands for them: shapes, or shardings.
    """

    step: Any
    """Steps done, int32."""
    params: Tree
    """Trained variables, float32."""
    frozen: Tree
    """The other variables, in the compute dtype."""
    optimizer: optax.OptState
    ema: Any
    """Running average of `params`, or None."""


def divide(variables: Mapping[str, Any], selection: Selection) -> tuple[Tree, Tree]:
    """Variables (`{"params": ..., "lora": ...}`) cut into those a selection trains and the others."""
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    chosen = {path for path in flat if SELECTIONS[selection](path)}
    trained, frozen = ({p: v for p, v in flat.items() if (p in chosen) == side} for side in (True, False))
    return traverse_util.unflatten_dict(trained, sep="/"), traverse_util.unflatten_dict(frozen, sep="/")


def join(trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> Tree:
    """The variables that `divide` cut."""
    both = (traverse_util.flatten_dict(dict(tree)) for tree in (trained, frozen))
    return traverse_util.unflatten_dict({path: leaf for flat in both for path, leaf in flat.items()})


def begin(
    params: Mapping[str, Any],
    selection: Selection,
    optimizer: OptimizerConfig,
    lora: LoRAConfig,
    *,
    seed: int,
    dtype: str,
) -> TrainState:
    """The state before the first step, around a DiT's params (whose leaves may carry axis names).

    A fresh LoRA is drawn from the seed where the selection asks for one. Runs under `jit` and `eval_shape`.
    """
    variables = {"params": params}
    if selection in ("lora", "lora_alone"):
        variables["lora"] = loras.init(jax.random.key(seed), params, lora)
    trained, frozen = divide(variables, selection)
    return first_state(trained, jax.tree.map(lambda x: x.astype(dtype), frozen), optimizer)


def first_state(trained: Mapping[str, Any], frozen: Mapping[str, Any], optimizer: OptimizerConfig) -> TrainState:
    """The state before the first step, around variables that are trained and others that are not."""
    params = jax.tree.map(lambda x: x.astype(jnp.float32), dict(trained))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        frozen=dict(frozen),
        optimizer=make_optimizer(optimizer).init(params),
        ema=jax.tree.map(jnp.copy, params) if optimizer.ema else None,
    )


def advance(state: TrainState, grads: Tree, optimizer: optax.GradientTransformation, ema: float) -> TrainState:
    """The state one step on, by the gradients of `state.params`.

    The average's decay starts low, `(1 + step) / (10 + step)`, so that it does not remember the start for long.
    """
    updates, moments = optimizer.update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    averaged = None
    if state.ema is not None:
        decay = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
        averaged = jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), state.ema, params)
    return dataclasses.replace(state, step=state.step + 1, params=params, optimizer=moments, ema=averaged)


def average(state: TrainState) -> Tree:
    """The trained variables to use: the running average where there is one."""
    return state.ema or state.params


def merged(variables: Mapping[str, Any]) -> Tree:
    """The DiT's params to sample with: a LoRA among the variables is merged in."""
    return loras.merge(variables["params"], variables["lora"]) if "lora" in variables else dict(variables["params"])
