"""Training and noise agree: one clip, sixteen fixed pairs of noise and level, learned by heart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.diffusion import flow, losses
from stableavatar_jax.training import run as runs
from stableavatar_jax.training import state as states
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.optimizer import make_optimizer
from stableavatar_jax.training.parts import dit
from stableavatar_jax.training.parts.dit_step import Draws, gradients
from tests.training import tiny

PAIRS = 16


def test_sixteen_pairs_are_learned():
    """The loss starts within a tenth of predicting zero, and falls to a tenth of its start."""
    network = dataclasses.replace(
        tiny.MODEL.dit, dim=64, ffn_dim=128, adapter=dataclasses.replace(tiny.MODEL.dit.adapter, dim=64)
    )
    optimizer = OptimizerConfig(learning_rate=6e-3, warmup=20, clip=(1.0, 1.0), clip_spikes=False, ema=0.0)
    run = dit.prepare(tiny.config(model=dataclasses.replace(tiny.MODEL, dit=network), train="all", optimizer=optimizer))
    model, config, state = run.model, run.config.step, runs.fresh_state(run)
    one = jax.tree.map(jnp.asarray, tiny.batch(0, rows=1))
    batch = jax.tree.map(lambda x: jnp.repeat(x, PAIRS, 0), one)
    shape = batch["latents_mean"].shape
    never, zero = jnp.zeros(PAIRS, bool), jnp.zeros(shape)
    draws = Draws(
        posterior=zero, reference_posterior=zero, noise=jax.random.normal(jax.random.key(1), shape),
        level=jnp.linspace(0.05, 1.0, PAIRS), branch=jnp.zeros(PAIRS, jnp.int32), silent=never, blind=never,
        clip_level=jnp.asarray(False),
    )
    target = flow.target_velocity(batch["latents_mean"], draws.noise)
    weight = losses.branch_weight(draws.branch, batch["face_mask"], batch["lip_mask"])
    still = losses.combine(
        losses.squared_error(zero, target, weight).mean(), losses.motion_error(zero, target, "time").mean(), config.loss
    )

    @jax.jit
    def learn(state):
        def one(state, _):
            grads, rows = gradients(model, state, batch, draws, config)
            loss = losses.combine(rows["reconstruction"].mean(), rows["motion"].mean(), config.loss)
            return states.advance(state, grads, make_optimizer(optimizer), 0.0), loss

        return jax.lax.scan(one, state, length=100)

    _, loss = learn(state)
    assert abs(loss[0] / still - 1) < 0.1, (loss[0], still)
    assert loss[-1] < 0.1 * loss[0], np.asarray(loss)[::50]
