"""One step of distillation: the teacher takes some steps with its guidance, the student learns to take them as one.

The student's velocity at noise level s, from which its next level is s', is to be the mean velocity of the teacher's
way from the same latents at s to where it arrives at s' (progressive distillation, Salimans and Ho 2022, in the flow's
form). Where the student may take any number of steps, it is the teacher's guided velocity itself.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from stableavatar_jax.diffusion import flow
from stableavatar_jax.diffusion.guidance import Guidance
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.sampling.program import Own
from stableavatar_jax.sampling.velocity import Shared, make_velocity
from stableavatar_jax.shapes import Array, Float, Key
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import StepConfig
from stableavatar_jax.training.parts.distil_config import StudentConfig
from stableavatar_jax.training.parts.dit_step import (
    Draws,
    draw,
    errors_of,
    gradients_of_rows,
    measure,
    points,
    predicted,
)
from stableavatar_jax.training.state import TrainState, Tree, join
from stableavatar_jax.training.step import Batch, Metrics, Step, make_step

TEACHER = "teacher"
"""Where the frozen variables hold what the student trains, as the teacher has it."""
NEGATIVE = "negative"
"""Where they hold the features of the negative prompt, if the guidance reads it."""
Velocity = Callable[[Float[Array, "B F H W C"], Float[Array, "B"]], Float[Array, "B F H W C"]]
"""`velocity(z, s)`: at noise levels, one for each row."""


def student_of(params: Tree, frozen: Mapping[str, Any]) -> Tree:
    """The student's variables."""
    return {name: tree for name, tree in join(params, frozen).items() if name not in (TEACHER, NEGATIVE)}


def teacher_of(frozen: Mapping[str, Any]) -> Tree:
    """The teacher's params: of what the student does not train there is one copy for both."""
    return join(frozen.get("params", {}), frozen.get(TEACHER, {}))


def levels_below(s: Float[Array, "B"], student: StudentConfig, shift: float) -> Float[Array, "n B"]:
    """Noise levels of the teacher's way from each row's level to the student's next one, both included."""
    u = s / (shift - (shift - 1) * s)
    down = jnp.linspace(0, 1 / student.steps, student.substeps + 1)
    return flow.shift(jnp.maximum(u - down[:, None], 0), shift).at[0].set(s)


def on_the_grid(s: Float[Array, "B"], student: StudentConfig, shift: float) -> Float[Array, "B"]:
    """Each level moved up to the nearest of those at which a student of so many steps is evaluated."""
    u = s / (shift - (shift - 1) * s)
    return flow.shift(jnp.clip(jnp.ceil(u * student.steps), 1) / student.steps, shift)


def walked(velocity: Velocity, z: Float[Array, "B F H W C"], levels: Float[Array, "n B"]) -> Array:
    """Where Euler's steps through these noise levels lead."""

    def step(z: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        s, below = pair
        return z + (below - s)[:, None, None, None, None] * velocity(z, s), None

    return jax.lax.scan(step, z, (levels[:-1], levels[1:]))[0]


def target_velocity(
    velocity: Velocity, z: Float[Array, "B F H W C"], s: Float[Array, "B"], student: StudentConfig, shift: float
) -> Float[Array, "B F H W C"]:
    """What the student is to predict for latents at noise levels."""
    if not student.steps:
        return velocity(z, s)
    levels = levels_below(s, student, shift)
    return (walked(velocity, z, levels) - z) / (levels[-1] - s)[:, None, None, None, None]


def guided_velocity(
    model: DiT, guidance: Guidance, frozen: Mapping[str, Any], batch: Batch, reference: Float[Array, "B F H W Y"]
) -> Velocity:
    """The teacher's velocity for a batch: that of sampling, each row a video of its own."""
    params, rows = teacher_of(frozen), len(reference)
    apply: Any = functools.partial(model.apply, {"params": params})
    text, mask, image = (batch[name] for name in ("text", "text_mask", "image"))
    if NEGATIVE in frozen:
        negative = jnp.broadcast_to(frozen[NEGATIVE], (rows, *frozen[NEGATIVE].shape))
        both = jnp.pad(text, ((0, 0), (0, negative.shape[1] - text.shape[1]), (0, 0)))
        known = jnp.pad(mask, ((0, 0), (0, negative.shape[1] - mask.shape[1])))
        text = jnp.stack([both, negative], 1).reshape(-1, *both.shape[1:])
        mask = jnp.stack([known, jnp.ones_like(known)], 1).reshape(-1, known.shape[1])
        image = jnp.repeat(image, 2, 0)
    dtype = model.compute.dtype
    slots = functools.partial(apply, latent_frames=reference.shape[1], method="slots")
    shared = Shared(
        params=params,
        context=apply(text.astype(dtype), mask, image.astype(dtype), method="context"),
        reference=reference.astype(dtype),
        silence=slots(jnp.zeros_like(batch["audio"][:1], dtype)),
    )
    own = Own(slots(batch["audio"].astype(dtype)).tokens, jnp.arange(rows))
    guided = make_velocity(model, guidance)
    return lambda z, s: guided(shared, own, z, flow.LEVELS * s)


def make_distil_step(
    model: DiT, guidance: Guidance, student: StudentConfig, config: StepConfig, optimizer: OptimizerConfig, *, seed: int
) -> Step:
    """The step of distillation: `training.step.make_step` with draws and losses of its own."""

    def measured_gradients(state: TrainState, batch: Batch, key: Key[Array, ""]) -> tuple[Tree, Metrics]:
        draws = draw(key, batch["latents_mean"].shape, config)
        if student.steps:
            draws = draws._replace(level=on_the_grid(draws.level, student, config.shift))

        def errors(params: Tree, batch: Batch, draws: Draws) -> dict[str, Float[Array, "B"]]:
            batch, x0, reference = points(batch, draws)
            z = flow.add_noise(x0, draws.noise, draws.level)
            velocity = guided_velocity(model, guidance, state.frozen, batch, reference)
            target = target_velocity(velocity, z, draws.level, student, config.shift)
            given = predicted(model, student_of(params, state.frozen), batch, draws, z, reference)
            return errors_of(given, target, batch, draws, config.loss)

        grads, rows = gradients_of_rows(errors, state, batch, draws, config)
        return grads, measure(rows, draws, config)

    return make_step(measured_gradients, optimizer, seed=seed)
