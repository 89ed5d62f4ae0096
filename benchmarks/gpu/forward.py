"""The transformer's forward pass: the guided velocity of one window, with one branch and with three."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.attention import computes
from benchmarks.gpu.measure import Rows, Size, milliseconds, temporaries
from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion import guidance
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.frames import IMAGE_TOKENS
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.models.flops import dit_flops
from stableavatar_jax.sampling.program import Own
from stableavatar_jax.sampling.velocity import make_velocity, share, slots
from stableavatar_jax.sharding import initialise

AUDIO_TOKENS = 161
"""Features of 81 frames' sound."""


def conditions(size: Size) -> Conditions:
    """Random features of the right shapes."""
    c, rng = size.model.dit, np.random.default_rng(0)
    normal: Callable[..., np.ndarray] = lambda *shape: rng.standard_normal(shape, np.float32)  # noqa: E731
    return Conditions(
        text=normal(2, c.text_len, c.text_dim), text_mask=np.ones((2, c.text_len), bool),
        image=normal(IMAGE_TOKENS, c.image_dim), reference=normal(*size.latents, c.in_channels - c.out_channels),
        audio=normal(1, AUDIO_TOKENS * size.frames // 21, c.adapter.audio_dim),
    )  # fmt: skip


def main(size: Size, rows: Rows) -> None:
    """Times, rates and temporaries of each kernel; how far fp8's velocity lies from bfloat16's."""
    c, ways = size.model.dit, computes(size)
    ways = {name: way for name, way in ways.items() if name != "chunked" or len(ways) == 1}
    params = initialise(DiT(c, next(iter(ways.values()))), jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), (1, *size.latents, c.out_channels), jnp.float32)
    plain = None
    for name, compute in ways.items():
        dit = DiT(c, compute)
        given = conditions(size)
        assert given.audio is not None
        sound = slots(dit, params, given.audio[0], size.latents[0])
        own = Own(sound[None], jnp.zeros(1, jnp.int32))
        inputs = share(dit, params, given, given.audio.shape[1]), own, z, jnp.full((1,), 500.0)
        for guide, audios in ((guidance.none(), 1), (guidance.audio_native(), 2)):
            branches = len(guide.branches)
            velocity = jax.jit(make_velocity(dit, guide), compiler_options=compiler_options(compute.platform))
            compiled = velocity.lower(*inputs).compile()
            ms = milliseconds(functools.partial(compiled, *inputs), jax.block_until_ready, size.repeats)
            work = dit_flops(c, size.latents, branches=branches, audios=audios, slot=sound.shape[1])
            more: dict[str, object] = {"temporaries_gib": temporaries(compiled)}
            if branches == 1:
                v = compiled(*inputs).astype(jnp.float32)
                plain = v if plain is None else plain
                more["error"] = f"{float(jnp.linalg.norm(v - plain) / jnp.linalg.norm(plain)):.2e}"
            rows.add(f"forward {name}, {branches} branch{'es' * (branches > 1)}", ms=ms, flop=work, **more)
