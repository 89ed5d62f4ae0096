"""What a run carries from step to step: what is trained, what is frozen, the optimizer, and an average.

The DiT's variables are cut in two by the path of each leaf: trained leaves are float32 master weights with an optimizer
and an average, frozen ones stand in the compute dtype with neither.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from stableavatar_jax.errors import Mistake
from stableavatar_jax.models import lora as loras
from stableavatar_jax.models.config import LoRAConfig
from stableavatar_jax.shapes import Array, Float, Int

Tree = dict[str, Any]
Selection = Literal["paper", "release", "adapter", "lora", "all"]

SELECTIONS: dict[str, Callable[[str], bool]] = {
    "paper": lambda path: "attention/" in path or path.startswith("params/audio_adapter/"),
    "release": lambda path: path.startswith(("params/blocks/", "params/audio_adapter/")),
    "adapter": lambda path: "audio" in path,
    "lora": lambda path: "audio" in path or path.startswith("lora/") and not path.endswith("/scale"),
    "all": lambda path: True,
}
"""Which variables are trained, by path (`params/blocks/ffn/up/kernel`): attention and adapter; every block and
everything that hears; everything that hears (adapter, audio keys and values); LoRA and everything that hears; all."""


STACKS = {"layers", "blocks"}
"""Where weights of all layers lie stacked on a leading axis (`models.layers.stack`)."""


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


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The defaults are the release's for 1.3B on 4 GPUs."""

    kind: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon: orthogonalised steps for matrices and kernels, as large as AdamW's; AdamW for all the rest."""
    learning_rate: float = 2e-5
    """After the warm-up it stays constant, unless `decay` says otherwise."""
    warmup: int = 100
    """Steps over which the learning rate rises from 0; 0 for none."""
    decay: Literal["none", "linear", "cosine"] = "none"
    """How the learning rate falls. A run may go on with another `decay`, and so decide late how it ends."""
    decay_start: int = 0
    """Step at which it begins to fall."""
    decay_steps: int = 0
    """Steps over which it falls."""
    floor: float = 0.0
    """Share of the learning rate that is left at the end."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the first and the second moment."""
    eps: float = 1e-10
    """Added to the root of the second moment."""
    weight_decay: float = 3e-2
    """Of every trained variable, norms and biases too, times the learning rate."""
    clip: tuple[float, float] = (0.25, 0.05)
    """Largest norm of all gradients together, at the first step and after `clip_steps`; between them a line."""
    clip_steps: int = 1000
    """Steps until the second value of `clip` holds."""
    clip_spikes: bool = True
    """After `clip_steps`, whether a norm above 5 times the limit lowers the limit for this step, up to 10 times."""
    ema: float = 0.9999
    """Decay of the running average (shorter at the start); 0 for none, as in the release."""

    def __post_init__(self):
        if self.learning_rate <= 0 or self.warmup < 0 or min(self.clip) <= 0 or self.clip_steps < 1:
            raise Mistake("learning_rate and clip above 0, warmup 0 or more, clip_steps 1 or more are needed")
        if self.decay != "none" and self.decay_steps < 1:
            raise Mistake(f"decay {self.decay} needs decay_steps: the number of steps over which the rate falls")
        if not 0 <= self.ema < 1:
            raise Mistake(f"ema is {self.ema}, 0 to below 1 is needed")


class ClipState(NamedTuple):
    """Steps taken so far."""

    step: Int[Array, ""]


def learning_rate(config: OptimizerConfig) -> optax.Schedule:
    """`learning_rate * min(1, step / warmup)`: the first step of a warm-up has rate 0, and only fills the moments.

    From `decay_start` on it falls, to `floor` times as much.
    """

    def rate(step):
        warm = config.learning_rate * jnp.minimum(1.0, step / config.warmup if config.warmup else 1.0)
        if config.decay == "none":
            return warm
        done = jnp.clip((step - config.decay_start) / config.decay_steps, 0.0, 1.0)
        left = 1 - done if config.decay == "linear" else (1 + jnp.cos(jnp.pi * done)) / 2
        return warm * (config.floor + (1 - config.floor) * left)

    return rate


def clip_limit(norm: Float[Array, ""], step: Int[Array, ""], config: OptimizerConfig) -> Float[Array, ""]:
    """Largest gradient norm let through at a step (docs/method.md, the release's rule)."""
    limit = optax.linear_schedule(*config.clip, config.clip_steps)(step)
    spike = norm / limit
    lowered = jnp.where(spike > 5, limit / jnp.minimum(spike, 10), limit)
    return jnp.where(config.clip_spikes & (step > config.clip_steps), lowered, limit)


def clip_gradients(config: OptimizerConfig) -> optax.GradientTransformation:
    """Scale all gradients together down to the step's limit, `limit / (norm + 1e-6)` as PyTorch does."""

    def update(grads, state, params=None):
        norm = optax.tree.norm(grads)
        scale = jnp.minimum(1.0, clip_limit(norm, state.step, config) / (norm + 1e-6))
        return jax.tree.map(lambda g: g * scale, grads), ClipState(state.step + 1)

    return optax.GradientTransformation(lambda params: ClipState(jnp.zeros((), jnp.int32)), update)


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """The release's optimizer: clipping, then AdamW with decay apart from the gradient; or Muon in its place."""
    return optax.chain(clip_gradients(config), {"adamw": adamw, "muon": muon}[config.kind](config))


def adamw(config: OptimizerConfig) -> optax.GradientTransformation:
    """PyTorch's AdamW, its moments in float32, with the config's schedule."""
    return optax.chain(
        optax.scale_by_adam(*config.betas, eps=config.eps),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(learning_rate(config)),
    )


def muon(config: OptimizerConfig) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) scaled to AdamW's step (Liu et al. 2025), so that one learning rate serves both."""
    return optax.contrib.muon(
        learning_rate(config), eps=config.eps, weight_decay=config.weight_decay, adam_b1=config.betas[0],
        adam_b2=config.betas[1], consistent_rms=0.2, muon_weight_dimension_numbers=matrices,
    )


def matrices(params: Any) -> Any:
    """How Muon reads each leaf: kernels as matrices [taps * in, out], one for each stacked layer; None for others."""

    def read(path, leaf):
        names = {getattr(key, "key", None) for key in path}
        axes = range(1 if names & STACKS else 0, leaf.ndim)
        if "kernel" not in names or len(axes) < 2:
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(axes[:-1]), (axes[-1],))

    return jax.tree_util.tree_map_with_path(read, params)


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
    if selection == "lora":
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
    average = None
    if state.ema is not None:
        decay = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), state.ema, params)
    return dataclasses.replace(state, step=state.step + 1, params=params, optimizer=moments, ema=average)


def merged(variables: Mapping[str, Any]) -> Tree:
    """The DiT's params to sample with: a LoRA among the variables is merged in."""
    return loras.merge(variables["params"], variables["lora"]) if "lora" in variables else dict(variables["params"])
