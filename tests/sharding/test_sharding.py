"""Meshes and shardings on eight virtual CPU devices, in a process of their own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stableavatar_jax.configs import tiny
from stableavatar_jax.errors import Mistake
from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.models.avatar import boxed_params, part
from stableavatar_jax.sharding import PRESETS, make_mesh, network_part, shardings, share_of_rows
from tests.virtual import FakeDevice, virtual

ROOT = Path(__file__).parents[2]

PROGRAM = """
import dataclasses
import jax, jax.numpy as jnp, numpy as np
import flax.linen as nn
from stableavatar_jax.configs import tiny
from stableavatar_jax.models.avatar import boxed_params, part
from stableavatar_jax.sharding import RULES, MeshConfig, initialise, make_mesh, shardings

model = dataclasses.replace(tiny.model, dit=dataclasses.replace(tiny.model.dit, dim=48, layers=2))
dit, mesh = part(model, "dit"), make_mesh(MeshConfig(data=1, fsdp=2, context=2, tensor=2), heads=2)
params = initialise(dit, jax.random.key(0), mesh)

# Born sharded: every weight has the shards its axes ask for, and no device holds a cut one whole.
kernel = params["blocks"]["self_attention"]["q"]["kernel"]
assert kernel.sharding.shard_shape(kernel.shape) == (2, 12, 24), kernel.sharding
up = params["blocks"]["ffn"]["up"]["kernel"]
assert up.addressable_shards[0].data.shape == (2, 12, 48), up.sharding
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
    options = {"cwd": ROOT, "env": virtual(8), "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([sys.executable, "-c", PROGRAM], **options, check=False)
    assert done.returncode == 0 and done.stdout.strip().endswith("ok"), done.stdout + done.stderr


def test_sizes_that_are_left_out_follow_from_rows_and_heads():
    sizes = lambda config, n, **work: dict(make_mesh(config, [FakeDevice(i) for i in range(n)], **work).shape)  # noqa: E731
    one = {"data": 1, "fsdp": 1, "ring": 1, "ulysses": 1, "tensor": 1}
    assert sizes(MeshConfig(), 1) == one
    assert sizes(MeshConfig(), 8) == one | {"fsdp": 8}
    assert sizes(MeshConfig(), 8, rows=2, heads=12) == one | {"fsdp": 2, "ulysses": 4}
    assert sizes(MeshConfig(), 8, rows=1, heads=12) == one | {"ring": 2, "ulysses": 4}  # 12 heads, 8 chips
    assert sizes(MeshConfig(), 16, rows=1, heads=40) == one | {"ring": 2, "ulysses": 8}
    assert sizes(MeshConfig(ulysses=2), 8, rows=1, heads=12) == one | {"ring": 4, "ulysses": 2}
    assert sizes(MeshConfig(data=2, tensor=2), 8, rows=4, heads=12) == one | {"data": 2, "fsdp": 2, "tensor": 2}
    for preset in PRESETS.values():
        assert np.prod(list(sizes(preset, 8, rows=8, heads=12).values())) == 8


@pytest.mark.parametrize(
    ("config", "work", "words"),
    [
        (MeshConfig(data=3), {}, "takes 3 devices or a multiple, there are 8"),
        (MeshConfig(data=2, fsdp=2, context=1), {}, "takes 4 devices, there are 8"),
        (MeshConfig(data=-1), {}, "sizes are 1 or more, and -1"),
        (MeshConfig(data=0), {}, "sizes are 1 or more"),
        (MeshConfig(tensor=8), {"heads": 12}, r"mesh.tensor is 8, .* the attention heads \(12\); 6 or 12 would"),
        (MeshConfig(data=8), {"rows": 12}, r"data x fsdp is 8, .* the rows of a batch \(12\); 6 or 12 would"),
        (MeshConfig(context=8, ulysses=8), {"heads": 12}, r"mesh.ulysses is 8, .* \(12\); 6 or 12 would"),
        (MeshConfig(context=8, ulysses=3), {"heads": 12}, r"mesh.ulysses is 3, .* \(8\); 2 or 4 would"),
    ],
)
def test_impossible_meshes_are_refused(config, work, words):
    with pytest.raises(Mistake, match=words):
        make_mesh(config, [FakeDevice(i) for i in range(8)], **work)


def test_weights_that_cannot_be_cut_are_named():
    mesh = make_mesh(MeshConfig(fsdp=5), [FakeDevice(i) for i in range(5)])
    with pytest.raises(Mistake, match=r"mesh.fsdp is 5, .* the axis 'embed' of \w+/.*kernel \(48\); 4 or 6 would"):
        shardings(boxed_params(part(tiny.model, "dit")), mesh)


def test_rows_are_cut_across_slices_and_tokens_within():
    devices = [FakeDevice(i, process_index=i // 4, slice_index=i // 8) for i in reversed(range(16))]
    mesh = make_mesh(MeshConfig(fsdp=4), devices, rows=4, heads=4)
    slices = np.vectorize(lambda device: device.slice_index)(mesh.devices)
    assert all(len(np.unique(row)) == 1 for row in slices.reshape(4, 4))
    assert network_part((2, 4, 1, 2, 1), 4) == (2, 2, 1, 1, 1)
    with pytest.raises(Mistake, match="data x fsdp must be a multiple of 4"):
        network_part((1, 2, 2, 4, 1), 4)


def test_processes_that_share_rows_read_the_same():
    devices = [FakeDevice(i, process_index=i // 4) for i in range(8)]
    assert share_of_rows(make_mesh(MeshConfig(), devices)) == (0, 2)
    assert share_of_rows(make_mesh(MeshConfig(), devices, rows=1, heads=8)) == (0, 1)
    with pytest.raises(Mistake, match="unevenly"):
        share_of_rows(make_mesh(MeshConfig(), [FakeDevice(i, process_index=i // 4) for i in range(6)]))
