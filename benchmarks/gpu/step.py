"""A training step of the transformer with one row, for each choice of what the backward pass makes again."""

import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.gpu.forward import AUDIO_TOKENS
from benchmarks.gpu.measure import Rows, Size, gib
from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.frames import IMAGE_TOKENS
from stableavatar_jax.models.avatar import part, settled
from stableavatar_jax.models.compute import Remat
from stableavatar_jax.models.config import LoRAConfig
from stableavatar_jax.models.flops import train_flops
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import StepConfig
from stableavatar_jax.training.parts.dit_step import make_train_step
from stableavatar_jax.training.state import begin

CHOICES: tuple[tuple[Remat, bool], ...] = (
    ("names", False), ("attention", False), ("attention", True), ("full", False), ("offload", False),
)  # fmt: skip
"""What is made again, and whether kernels that give the same bits every time are asked for."""


def batch(size: Size) -> dict[str, jax.Array]:
    """Random features of the right shapes, one row."""
    c, key = size.model.dit, jax.random.key(2)
    shapes = dict.fromkeys(
        ("latents_mean", "latents_logvar", "reference_mean", "reference_logvar"), (*size.latents, c.out_channels)
    ) | {
        "text": (c.text_len, c.text_dim), "image": (IMAGE_TOKENS, c.image_dim),
        "audio": (AUDIO_TOKENS * size.frames // 21, c.adapter.audio_dim),
    }  # fmt: skip
    made = {name: 0.1 * jax.random.normal(key, (1, *shape)) for name, shape in shapes.items()}
    masks = {name: jnp.ones((1, *size.latents), bool) for name in ("face_mask", "lip_mask")}
    return made | masks | {"text_mask": jnp.ones((1, c.text_len), bool)}


def main(size: Size, rows: Rows) -> None:
    """Median time of a step, its share of the product's rate, and what the compiler counts of memory."""
    optimizer = OptimizerConfig()
    for remat, deterministic in CHOICES:
        compute = settled(
            size.model, "dit", jax.devices()[0], size.dtype, param_dtype="float32", remat=remat
        )  # fmt: skip
        model = part(size.model, "dit", compute)
        example = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), model.example())

        def fresh(key: jax.Array, model: Any = model, example: Any = example) -> Any:
            params = nn.unbox(model.init(key, *example)["params"])
            return begin(params, "release", optimizer, LoRAConfig(), seed=0, dtype=size.dtype)

        state: Any = jax.jit(fresh)(jax.random.key(0))
        step = make_train_step(model, StepConfig(), optimizer, seed=0)
        options = compiler_options(compute.platform, deterministic=deterministic)
        options = None if compute.platform == "cpu" else options
        data = batch(size)
        compiled = jax.jit(step, donate_argnums=0, compiler_options=options).lower(state, data).compile()
        times = []
        for _ in range(size.repeats):
            start = time.perf_counter()
            state, metrics = compiled(state, data)
            jax.block_until_ready((state, metrics))
            times.append(time.perf_counter() - start)
        useful, _ = train_flops(size.model.dit, size.latents, remat=remat)
        memory: Any = compiled.memory_analysis()
        rows.add(
            f"step, remat {remat}{', deterministic' * deterministic}",
            ms=1e3 * sorted(times[1:])[len(times[1:]) // 2], flop=useful,
            state_gib=gib(memory.argument_size_in_bytes), temporaries_gib=gib(memory.temp_size_in_bytes),
            loss=round(float(metrics["loss"]), 4),
        )  # fmt: skip
        del state, compiled
