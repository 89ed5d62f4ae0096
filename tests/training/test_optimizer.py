"""The optimizer's options beyond the release's: how the rate falls, and Muon."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.errors import Mistake
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.directory import settle, write_own
from stableavatar_jax.training.optimizer import learning_rate, make_optimizer, matrices
from tests.training import tiny


@pytest.mark.parametrize(("decay", "halfway"), [("linear", 0.55), ("cosine", 0.55), ("none", 1.0)])
def test_the_rate_rises_stays_and_falls(decay, halfway):
    rate = learning_rate(OptimizerConfig(
        learning_rate=1.0, warmup=10, decay=decay, decay_start=20, decay_steps=10, floor=0.1,
    ))  # fmt: skip
    end = 1.0 if decay == "none" else 0.1
    steps = {0: 0.0, 5: 0.5, 10: 1.0, 20: 1.0, 25: halfway, 30: end, 99: end}
    np.testing.assert_allclose([rate(step) for step in steps], list(steps.values()), rtol=1e-5)
    with pytest.raises(ValueError, match="decay linear needs decay_steps"):
        OptimizerConfig(decay="linear")


def test_how_a_run_ends_may_be_decided_late(tmp_path):
    begun = tiny.config(run_dir=tmp_path)
    write_own(begun)
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    ending = dataclasses.replace(begun.optimizer, decay="linear", decay_start=5, decay_steps=5, floor=0.1)
    settle(dataclasses.replace(begun, optimizer=ending))
    with pytest.raises(Mistake, match=r"optimizer.learning_rate was 0.001, now 0.5"):
        settle(dataclasses.replace(begun, optimizer=dataclasses.replace(ending, learning_rate=0.5)))


def test_muon_steps_are_orthogonal_and_as_large_as_adamw_s():
    """Kernels are read as [taps * in, out], each of a stack of layers by itself; the rest goes to AdamW."""
    config = OptimizerConfig(kind="muon", learning_rate=1.0, warmup=0, weight_decay=0.0, eps=1e-8, clip=(1e9, 1e9))
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = {"conv": (3, 3, 4, 8), "layers": (2, 16, 6), "linear": (5, 5), "bias": (7,)}
    grads = {
        name: {"bias" if name == "bias" else "kernel": jax.random.normal(key, shape)}
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    dims = matrices(grads)
    assert dims["bias"]["bias"] is None
    assert dims["conv"]["kernel"] == ((0, 1, 2), (3,)) and dims["layers"]["kernel"] == ((1,), (2,))
    optimizer = make_optimizer(config)
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
    for matrix in (updates["conv"]["kernel"].reshape(36, 8), *updates["layers"]["kernel"], updates["linear"]["kernel"]):
        singular = np.linalg.svd(np.asarray(matrix), compute_uv=False)
        assert singular.max() / singular.min() < 2.5  # Newton and Schulz's five steps are no more exact than that
        np.testing.assert_allclose(np.sqrt(np.square(matrix).mean()), 0.2, rtol=0.25)
    adam = make_optimizer(dataclasses.replace(config, kind="adamw", betas=(0.9, 0.999)))
    alone, _ = adam.update(grads["bias"], adam.init(grads["bias"]), grads["bias"])
    assert jnp.sign(alone["bias"]).tolist() == jnp.sign(updates["bias"]["bias"]).tolist()
