"""The 1.3B transformer compiled for a TPU v5p on this machine's CPU: which attention it holds, and its memory.

`make tpu` runs this in an environment of its own, with the TPU's compiler; elsewhere it is skipped.
"""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.frames import IMAGE_TOKENS
from stableavatar_jax.models.attention import attention
from stableavatar_jax.models.audio_adapter import AudioSlots
from stableavatar_jax.models.avatar import abstract_params, part, settled
from stableavatar_jax.models.compute import settle
from stableavatar_jax.models.config import AvatarConfig, LoRAConfig
from stableavatar_jax.models.dit import Context
from stableavatar_jax.models.remat import SELF_ATTENTION, policy
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import StepConfig
from stableavatar_jax.training.parts.dit_step import make_train_step
from stableavatar_jax.training.state import begin

pytest.importorskip("libtpu")
MODEL, SIZE, SLOT = AvatarConfig(), (21, 60, 104), 15


@pytest.fixture(scope="module")
def device():
    jax.config.update("jax_enable_compilation_cache", False)  # without a TPU what is kept cannot be read again
    from jax.experimental import topologies

    return topologies.get_topology_desc(platform="tpu", topology_name="v5p:2x2x1").devices[0]


def placed(tree: Any, device: Any) -> Any:
    where = jax.sharding.SingleDeviceSharding(device)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree)


@pytest.mark.parametrize(("rows", "most"), [(1, 1.04e9), (3, 2.4e9)])
def test_forward(device, rows, most):
    """Splash's call, no array of scores, and at most the temporaries that MaxDiffusion takes."""
    dit = part(MODEL, "dit", settled(MODEL, "dit", device, "bfloat16"))
    assert dit.compute.attention == "splash"
    c, shape = MODEL.dit, lambda *n, dtype="bfloat16": jax.ShapeDtypeStruct(n, dtype)
    text, image = (shape(c.layers, rows, n, c.dim) for n in (c.text_len, IMAGE_TOKENS))
    inputs = (
        shape(rows, *SIZE, 16), shape(rows, dtype="float32"), shape(rows, *SIZE, 20),
        Context((text, text), (image, image)),
        AudioSlots(shape(rows, SIZE[0], SLOT, c.dim), shape(SIZE[0], dtype="int32")),
    )  # fmt: skip
    velocity = lambda params, *inputs: dit.apply({"params": params}, *inputs, method="velocity")  # noqa: E731
    run = jax.jit(velocity, compiler_options=compiler_options("tpu"))
    compiled = run.lower(placed(abstract_params(dit), device), *placed(inputs, device)).compile()
    text, memory = compiled.as_text(), compiled.memory_analysis()
    assert text.count("tpu_custom_call") >= 1
    tokens = int(np.prod(SIZE)) // 4
    assert not re.search(rf"\[[\d,]*{tokens},{tokens}\]", text)
    print(f"rows {rows}: temporaries {memory.temp_size_in_bytes / 1e9:.2f} GB")
    assert memory.temp_size_in_bytes < most


@pytest.fixture(scope="module")
def step(device):
    """The whole training step of the 1.3B model on one row, compiled for one chip: minutes."""
    compute = settled(MODEL, "dit", device, "bfloat16", param_dtype="float32", remat="attention")
    model, c, optimizer = part(MODEL, "dit", compute), MODEL.dit, OptimizerConfig(ema=0.99)

    def born() -> Any:
        params = nn.unbox(model.init(jax.random.key(0), *model.example())["params"])
        return begin(params, "release", optimizer, LoRAConfig(), seed=0, dtype="bfloat16")

    shape = lambda *n, dtype="float32": jax.ShapeDtypeStruct((1, *n), dtype)  # noqa: E731
    posteriors = ("latents_mean", "latents_logvar", "reference_mean", "reference_logvar")
    batch = {name: shape(*SIZE, c.out_channels) for name in posteriors} | {
        "text": shape(c.text_len, c.text_dim), "text_mask": shape(c.text_len, dtype="bool"),
        "image": shape(IMAGE_TOKENS, c.image_dim), "audio": shape(161, c.adapter.audio_dim),
        "face_mask": shape(*SIZE, dtype="bool"), "lip_mask": shape(*SIZE, dtype="bool"),
    }  # fmt: skip
    run = jax.jit(
        make_train_step(model, StepConfig(), optimizer, seed=0), donate_argnums=0,
        compiler_options=compiler_options("tpu"),
    )  # fmt: skip
    return run.lower(placed(jax.eval_shape(born), device), placed(batch, device)).compile()


def test_a_training_step_runs_self_attention_once_forward_and_once_backward(step):
    """In the bodies of its loops, with no array of scores."""
    text = step.as_text()
    calls = re.findall(r"splash_mha_(\w+?)_\w*[.\d]* = .*operand_layout_constraints=\{(.*?)\}, frontend", text)
    blocks = -(-int(np.prod(SIZE)) // 4 // 2048) * 2048
    whole = f"bf16[{MODEL.dit.heads},{blocks},{MODEL.dit.dim // MODEL.dit.heads}]"
    assert sorted(name for name, operands in calls if operands.count(whole) >= 3) == ["dkv", "fwd"]
    tokens = int(np.prod(SIZE)) // 4
    assert not re.search(rf"\[[\d,]*{tokens},{tokens}\]", text)
    memory = step.memory_analysis()
    print(f"state {memory.argument_size_in_bytes / 1e9:.1f} GB, temporaries {memory.temp_size_in_bytes / 1e9:.1f} GB")


def test_the_optimizer_passes_once_over_each_weight(step):
    """One fusion reads a leaf's gradient, value, moments and average, and writes all but the gradient."""
    c = MODEL.dit
    leaf = re.escape(f"f32[{c.layers},{c.dim},{c.ffn_dim}]")
    written = re.findall(rf"= \((?:{leaf}[^ ]*,? ?){{4}} fusion\(([^)]*)\)", step.as_text())
    assert len(written) == 1 and "state_ema" in written[0] and "state_params" in written[0]


def test_the_backward_pass_runs_attention_forward_once(device):
    """Blocks that are made again but for self-attention: one call forward, with its statistics, and one backward."""
    compute = settle(device, "bfloat16", param_dtype="float32", remat="attention")

    def block(x: jax.Array) -> jax.Array:
        return x + attention(x, 2 * x, 3 * x, compute, keep=SELF_ATTENTION)

    def loss(x: jax.Array) -> jax.Array:
        again = jax.checkpoint(block, policy=policy("attention"))
        x, _ = jax.lax.scan(lambda x, _: (again(x), None), x, None, length=4)
        return jnp.square(x.astype(jnp.float32)).sum()

    c = MODEL.dit
    x = jax.ShapeDtypeStruct((1, int(np.prod(SIZE)) // 4, c.heads, c.dim // c.heads), "bfloat16")
    run = jax.jit(jax.grad(loss), compiler_options=compiler_options("tpu"))
    compiled = run.lower(placed(x, device)).compile()
    calls = [line for line in compiled.as_text().splitlines() if 'custom_call_target="tpu_custom_call"' in line]
    names = sorted(re.search(r"splash_mha_(\w+?)_", line)[1] for line in calls)
    assert names == ["dkv", "fwd"]
