"""Meshes and shardings on eight virtual CPU devices, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.sharding import make_mesh

ROOT = Path(__file__).parents[1]

PROGRAM = """
import dataclasses
import jax, jax.numpy as jnp, numpy as np
import flax.linen as nn
from stableavatar_jax.configs import tiny
from stableavatar_jax.models.avatar import boxed_params, part
from stableavatar_jax.sharding import RULES, MeshConfig, initialise, make_mesh, shardings

model = dataclasses.replace(tiny.model, dit=dataclasses.replace(tiny.model.dit, dim=48, layers=2))
dit, mesh = part(model, "dit"), make_mesh(MeshConfig(data=1, fsdp=2, context=2, tensor=2))
params = initialise(dit, jax.random.key(0), mesh)

# Born sharded: every weight has the shards its axes ask for, and no device holds a cut one whole.
kernel = params["blocks"]["self_attention"]["q"]["kernel"]
assert kernel.sharding.shard_shape(kernel.shape) == (2, 24, 24), kernel.sharding
up = params["blocks"]["ffn"]["up"]["kernel"]
assert up.addressable_shards[0].data.shape == (2, 24, 48), up.sharding
jax.tree.map(lambda x, s: (x.sharding == s) or exit(f"{x.sharding} is not {s}"), params,
             nn.unbox(shardings(boxed_params(dit), mesh)))

# The same numbers as on one device, with tokens and heads cut across the mesh.
example = [jax.random.normal(jax.random.key(i), x.shape, x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
           for i, x in enumerate(dit.example())]
example[0], example[2] = (jax.random.normal(jax.random.key(9), (2, 4, 4, 4, c)) for c in (16, 20))
example = [jnp.broadcast_to(x, (2, *x.shape[1:])) for x in example]
whole = jax.device_get(params)
alone = jax.jit(lambda p: dit.apply({"params": p}, *example))(whole)
with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
    text = jax.jit(lambda p: dit.apply({"params": p}, *example)).lower(params).as_text()
    spread = jax.jit(lambda p: dit.apply({"params": p}, *example))(params)
assert "sharding_constraint" in text or "@Sharding" in text, "activations carry no constraint"
np.testing.assert_allclose(np.asarray(spread), np.asarray(alone), atol=2e-5, rtol=2e-5)
print("ok")
"""


def test_born_sharded_and_equal_to_one_device():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0 and done.stdout.strip().endswith("ok"), done.stdout + done.stderr


def test_one_axis_takes_what_is_left():
    mesh = make_mesh(MeshConfig(fsdp=-1), jax.devices()[:1])
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1, "context": 1, "tensor": 1}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (MeshConfig(data=3, fsdp=1), "takes 3 devices, there are 1"),
        (MeshConfig(data=-1, fsdp=-1), "at most one is -1"),
        (MeshConfig(data=0), "sizes are 1 or more"),
    ],
)
def test_impossible_meshes_are_refused(config, words):
    with pytest.raises(ValueError, match=words):
        make_mesh(config, jax.devices()[:1])
