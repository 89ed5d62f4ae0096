"""Laws of the step and the state: accumulation, remat, precision, selections, the average, randomness."""

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from stableavatar_jax.diffusion.config import BRANCHES
from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import LoRAConfig
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.training import loop
from stableavatar_jax.training import state as states
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.directory import settle
from stableavatar_jax.training.logs import read_rows
from stableavatar_jax.training.optimizer import make_optimizer
from stableavatar_jax.training.parts import dit
from stableavatar_jax.training.parts.config import StepConfig
from stableavatar_jax.training.parts.dit_step import draw, gradients
from tests.params import random_params
from tests.training import tiny

ROOT = Path(__file__).parents[2]
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, warmup=0)


def begin(selection="all", dtype="float32", optimizer=OPTIMIZER):
    params = random_params(DiT(tiny.MODEL.dit))
    return states.begin(params, selection, optimizer, LoRAConfig(rank=2, alpha=1.0), seed=0, dtype=dtype)


def on_device(rows=4):
    return jax.tree.map(jnp.asarray, tiny.batch(0, rows))


@functools.lru_cache
def compiled(compute, config):
    return jax.jit(lambda state, batch, draws: gradients(DiT(tiny.MODEL.dit, compute), state, batch, draws, config))


def run_gradients(state, batch, compute=Compute(), config=StepConfig()):  # noqa: B008
    draws = draw(jax.random.key(3), batch["latents_mean"].shape, config)
    return compiled(compute, config)(state, batch, draws)


def test_accumulation_equals_the_whole_batch():
    state, batch = begin(), on_device()
    grads, rows = run_gradients(state, batch)
    parts, part_rows = run_gradients(state, batch, config=StepConfig(accumulate=2))
    scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * scale, rtol=1e-4), grads, parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), rows, part_rows)


@pytest.mark.parametrize("remat", ["full", "attention", "names", "offload"])
def test_remat_changes_nothing(remat):
    state, batch = begin(), on_device()
    want, _ = run_gradients(state, batch)
    have, _ = run_gradients(state, batch, Compute(remat=remat))
    scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(want))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * scale, rtol=1e-4), want, have)


def test_names_keep_what_is_named():
    """What the backward pass of a block is handed holds the named results under `names`, and not under `full`."""

    def kept(remat):
        state, batch = begin(), on_device(1)
        config, model = StepConfig(), DiT(tiny.MODEL.dit, Compute(remat=remat))
        draws = draw(jax.random.key(3), batch["latents_mean"].shape, config)
        jaxpr = str(jax.make_jaxpr(lambda s: gradients(model, s, batch, draws, config))(state))
        tokens, c = 3 * 2 * 2, tiny.MODEL.dit
        return f"f32[{c.layers},1,{tokens},{c.ffn_dim}]" in jaxpr

    assert kept("names") and not kept("full")


@pytest.mark.parametrize(("selection", "trained", "frozen"), [
    ("paper", ["blocks/self_attention/q/kernel", "blocks/cross_attention/k_audio/kernel", "audio_adapter/head/bias"],
     ["blocks/ffn/up/kernel", "blocks/modulation", "head/kernel"]),
    ("release", ["blocks/ffn/up/kernel", "blocks/modulation", "audio_adapter/head/bias"],
     ["patch_embedding/kernel", "time_projection/kernel", "head_modulation", "image_embedding/norm_in/scale"]),
    ("adapter", ["audio_adapter/head/bias", "blocks/cross_attention/v_audio/kernel"],
     ["blocks/cross_attention/v/kernel", "blocks/self_attention/q/kernel"]),
    ("all", ["patch_embedding/kernel", "head/kernel"], []),
])
def test_selections(selection, trained, frozen):
    state = begin(selection)
    have, rest = (set(traverse_util.flatten_dict(t.get("params", {}), sep="/")) for t in (state.params, state.frozen))
    assert set(trained) <= have and set(frozen) <= rest and not have & rest


def test_frozen_weights_take_no_optimizer_memory():
    state = begin("lora", dtype="bfloat16")
    trained = sum(x.size for x in jax.tree.leaves(state.params))
    moments = [x for x in jax.tree.leaves(state.optimizer) if x.ndim]
    assert sum(x.size for x in moments) == 2 * trained
    assert {x.dtype.name for x in jax.tree.leaves(state.params)} == {"float32"}
    assert {x.dtype.name for x in jax.tree.leaves(state.frozen)} == {"bfloat16"}
    names = set(traverse_util.flatten_dict(state.params, sep="/"))
    assert "lora/blocks/self_attention/q/down" in names and "lora/blocks/self_attention/q/scale" not in names
    assert "params/audio_adapter/head/kernel" in names and "params/blocks/self_attention/q/kernel" not in names


def test_average_follows_its_rule():
    """By hand, two steps: decays 1/10 and 2/11, below the asked-for 0.9."""
    state = begin("adapter", optimizer=dataclasses.replace(OPTIMIZER, ema=0.9))
    optimizer = make_optimizer(OPTIMIZER)
    want = state.params
    for step in range(2):
        state = states.advance(state, jax.tree.map(jnp.ones_like, state.params), optimizer, 0.9)
        decay = (1 + step) / (10 + step)
        want = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, want, state.params)  # noqa: B023
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.ema, want)
    assert begin("adapter", optimizer=dataclasses.replace(OPTIMIZER, ema=0.0)).ema is None


def test_bfloat16_computes_near_float32():
    state, batch = begin(), on_device()
    _, want = run_gradients(state, batch)
    grads, have = run_gradients(state, batch, Compute(dtype="bfloat16"))
    assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(grads))
    np.testing.assert_allclose(have["mse"], want["mse"], rtol=0.05)


def test_draws_have_the_released_shares():
    config = StepConfig(blind=0.1)
    draws = draw(jax.random.key(0), (4000, 1, 1, 1, 1), config)
    shares = [float((draws.branch == i).mean()) for i in range(len(BRANCHES))]
    np.testing.assert_allclose(shares, config.loss.shares, atol=0.03)
    np.testing.assert_allclose([draws.silent.mean(), draws.blind.mean()], 0.1, atol=0.02)
    keys = jax.random.split(jax.random.key(1), 500)
    clip_level = jax.vmap(lambda key: draw(key, (1, 1, 1, 1, 1), config).clip_level)(keys)
    np.testing.assert_allclose(clip_level.mean(), 0.3, atol=0.06)


def test_one_compilation_for_each_shape():
    """Steps of one shape are traced once, a second shape once more; the old state is given away."""
    run, traced = dit.prepare(tiny.config()), []

    def step(state, batch):
        traced.append(1)
        return run.step.__wrapped__(state, batch)

    counted = jax.jit(step)
    with run.on_mesh():
        for seed in range(3):
            counted.trace(run.abstract, tiny.batch(seed))
        counted.trace(run.abstract, tiny.batch(0, shape=(2, 4, 4)))
        (state, batch), _ = run.step.trace(run.abstract, tiny.batch(0)).args_info
    assert len(traced) == 2
    assert all(leaf.donated for leaf in jax.tree.leaves(state)) and not any(b.donated for b in batch.values())


def test_mesh_of_four_equals_one_device(tmp_path):
    """Two steps in a process with four devices, weights cut along two and heads along two."""
    script = "import tests.training.test_step as t, sys; t.two_steps(sys.argv[1], fsdp=2, tensor=2)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "4"}
    child = subprocess.run([sys.executable, "-c", script, str(tmp_path / "four")], env=environment,
                           capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-2000:]
    two_steps(str(tmp_path / "one"), fsdp=1, tensor=1)
    one, four = (read_rows(tmp_path / name / "metrics.csv") for name in ("one", "four"))
    for name in ("loss", "gradient_norm", "mse_level_0.8_1.0"):
        np.testing.assert_allclose([r[name] for r in one], [r[name] for r in four], rtol=1e-4)


def two_steps(folder: str, **axes: int):
    """The runs that the test above compares."""
    run = dit.prepare(settle(tiny.config(run_dir=Path(folder), steps=2, mesh=MeshConfig(**axes))))
    kernel = run.abstract.params["params"]["blocks"]["ffn"]["up"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (2, 32 // axes["fsdp"], 48 // axes["tensor"])
    loop.train(run, tiny.Synthetic())
