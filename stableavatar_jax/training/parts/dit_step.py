"""One training step: what is random is drawn, the velocity's error is measured, the state moves on.

A batch is a dict of arrays with rows on axis 0: `latents_mean`, `latents_logvar`, `reference_mean`,
`reference_logvar` `[B F H W C]` (posteriors of the video and of its first frame alone), `text` `[B L E]` with
`text_mask` `[B L]`, `image` `[B I G]`, `audio` `[B A V]`, `face_mask` and `lip_mask` `[B F H W]`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange

from stableavatar_jax.diffusion import flow, losses, masks
from stableavatar_jax.diffusion.config import BRANCHES, LossConfig
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models import vae
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.shapes import Array, Bool, Float, Int, Key
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import StepConfig
from stableavatar_jax.training.state import TrainState, Tree, join
from stableavatar_jax.training.step import Batch, Metrics, Step, make_step

LEVEL_BUCKETS = 5
"""Noise levels are reported in so many equal ranges of 0 to 1."""


class Draws(NamedTuple):
    """All that is random in a step. All but `clip_level` belong to rows: the release has one row on each device."""

    posterior: Float[Array, "B F H W C"]
    """Standard normal noise of the video's posterior."""
    reference_posterior: Float[Array, "B F H W C"]
    """The same for the reference."""
    noise: Float[Array, "B F H W C"]
    """What the video is carried towards."""
    level: Float[Array, "B"]
    """Noise level."""
    branch: Int[Array, "B"]
    """Mask branch, an index in `BRANCHES`."""
    silent: Bool[Array, "B"]
    blind: Bool[Array, "B"]
    clip_level: Bool[Array, ""]


RowErrors = Callable[[Tree, Batch, Draws], dict[str, Float[Array, "B"]]]
"""`errors(params, batch, draws)`: each row's `reconstruction`, `motion` and `mse`."""


def draw(key: Key[Array, ""], shape: tuple[int, ...], config: StepConfig) -> Draws:
    """The draws of a step on latents of shape `[B F H W C]`."""
    keys, rows = jax.random.split(key, 8), shape[0]
    normal = lambda key: jax.random.normal(key, shape)  # noqa: E731
    return Draws(
        normal(keys[0]), normal(keys[1]), normal(keys[2]),
        level=flow.draw_noise_level(keys[3], rows, config.shift),
        branch=losses.branch_of(jax.random.uniform(keys[4], (rows,)), config.loss),
        silent=jax.random.bernoulli(keys[5], config.silent, (rows,)),
        blind=jax.random.bernoulli(keys[6], config.blind, (rows,)),
        clip_level=jax.random.bernoulli(keys[7], config.clip_level),
    )


def row_losses(
    model: DiT, variables: Mapping[str, Any], batch: Batch, draws: Draws, config: LossConfig
) -> dict[str, Float[Array, "B"]]:
    """Each row's `reconstruction`, `motion` and plain squared error `mse`."""
    batch, x0, reference = points(batch, draws)
    z = flow.add_noise(x0, draws.noise, draws.level)
    velocity = predicted(model, variables, batch, draws, z, reference)
    return errors_of(velocity, flow.target_velocity(x0, draws.noise), batch, draws, config)


def points(batch: Batch, draws: Draws) -> tuple[Batch, Float[Array, "B F H W C"], Float[Array, "B F H W Y"]]:
    """The batch in float32, the video's latents, and the reference beside its mask, as the network reads it."""
    batch = {name: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x for name, x in batch.items()}
    x0 = vae.reparameterise(batch["latents_mean"], batch["latents_logvar"], draws.posterior)
    given = vae.reparameterise(batch["reference_mean"], batch["reference_logvar"], draws.reference_posterior)
    rows, frames, height, width, _ = x0.shape
    mask = jnp.broadcast_to(masks.first_frame_given((frames, height, width)), (rows, frames, height, width, 4))
    return batch, x0, jnp.concatenate([mask, given], -1)


def predicted(
    model: DiT, variables: Mapping[str, Any], batch: Batch, draws: Draws, z: Float[Array, "B F H W C"],
    reference: Float[Array, "B F H W Y"],
) -> Float[Array, "B F H W C"]:  # fmt: skip
    """The velocity of latents at the drawn noise levels, some rows without sound or picture."""
    velocity: Any = model.apply(
        variables,
        z,
        flow.LEVELS * draws.level,
        reference,
        batch["text"],
        batch["text_mask"],
        jnp.where(draws.blind[:, None, None], 0, batch["image"]),
        jnp.where(draws.silent[:, None, None], 0, batch["audio"]),
        clip_level=draws.clip_level,
    )
    return velocity


def errors_of(
    velocity: Float[Array, "B F H W C"], target: Float[Array, "B F H W C"], batch: Batch, draws: Draws,
    config: LossConfig,
) -> dict[str, Float[Array, "B"]]:  # fmt: skip
    """Each row's `reconstruction`, `motion` and plain squared error `mse` of a velocity."""
    weight = losses.branch_weight(draws.branch, batch["face_mask"], batch["lip_mask"])
    return {
        "reconstruction": losses.squared_error(velocity, target, weight),
        "motion": losses.motion_error(velocity, target, config.motion_axis),
        "mse": losses.squared_error(velocity, target),
    }


def gradients(
    model: DiT, state: TrainState, batch: Batch, draws: Draws, config: StepConfig
) -> tuple[Any, dict[str, Float[Array, "B"]]]:
    """Gradients of the loss by `state.params`, and the losses of the rows.

    With `accumulate` the batch goes through in parts; the average of their gradients is the whole batch's.
    """

    def errors(params: Tree, batch: Batch, draws: Draws) -> dict[str, Float[Array, "B"]]:
        return row_losses(model, join(params, state.frozen), batch, draws, config.loss)

    return gradients_of_rows(errors, state, batch, draws, config)


def gradients_of_rows(
    errors: RowErrors, state: TrainState, batch: Batch, draws: Draws, config: StepConfig
) -> tuple[Any, dict[str, Float[Array, "B"]]]:
    """The same of any errors of rows, each row's `reconstruction` and `motion` among them."""

    def loss(params, batch, draws):
        rows = errors(params, batch, draws)
        return losses.combine(rows["reconstruction"].mean(), rows["motion"].mean(), config.loss), rows

    def part(total, inputs):
        batch, draws = inputs
        (_, rows), grads = jax.value_and_grad(loss, has_aux=True)(state.params, batch, draws)
        return jax.tree.map(lambda t, g: t + g / config.accumulate, total, grads), rows

    if config.accumulate == 1:
        (_, rows), grads = jax.value_and_grad(loss, has_aux=True)(state.params, batch, draws)
        return grads, rows
    parts = config.accumulate
    if draws.level.size % parts:
        raise Mistake(f"a batch of {draws.level.size} rows cannot go through in {parts} equal parts")
    # Row b * parts + a goes to part a, so that the rows of a part lie on all devices as those of the batch do.
    fold = lambda x: rearrange(x, "(B A) ... -> A B ...", A=parts)  # noqa: E731
    by_row = Draws(*(jnp.broadcast_to(x, parts) if x.ndim == 0 else fold(x) for x in draws))
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    grads, rows = jax.lax.scan(part, zeros, (jax.tree.map(fold, dict(batch)), by_row))
    return grads, jax.tree.map(lambda x: rearrange(x, "A B -> (B A)"), rows)


def measure(rows: dict[str, Array], draws: Draws, config: StepConfig) -> Metrics:
    """What is reported of a step's losses: scalars, and for each mask branch and range of noise levels the mean over
    its rows (NaN where it has none)."""
    reconstruction, motion = rows["reconstruction"].mean(), rows["motion"].mean()
    metrics = {
        "loss": losses.combine(reconstruction, motion, config.loss),
        "reconstruction": reconstruction,
        "motion": motion,
    }
    mean = lambda x, chosen: jnp.where(chosen, x, 0).sum() / chosen.sum()  # noqa: E731
    for i, name in enumerate(BRANCHES):
        metrics[f"loss_{name}"] = mean(rows["reconstruction"], draws.branch == i)
    bucket = jnp.minimum((draws.level * LEVEL_BUCKETS).astype(jnp.int32), LEVEL_BUCKETS - 1)
    for i in range(LEVEL_BUCKETS):
        name = f"mse_level_{i / LEVEL_BUCKETS:.1f}_{(i + 1) / LEVEL_BUCKETS:.1f}"
        metrics[name] = mean(rows["mse"], bucket == i)
    return metrics


def make_train_step(model: DiT, config: StepConfig, optimizer: OptimizerConfig, *, seed: int) -> Step:
    """The transformer's step: `training.step.make_step` with draws and losses of its own."""

    def measured_gradients(state: TrainState, batch: Batch, key: Key[Array, ""]) -> tuple[Tree, Metrics]:
        draws = draw(key, batch["latents_mean"].shape, config)
        grads, rows = gradients(model, state, batch, draws, config)
        return grads, measure(rows, draws, config)

    return make_step(measured_gradients, optimizer, seed=seed)
