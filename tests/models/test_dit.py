"""Laws of the transformer that need no reference: loops, branches, rows, dtypes."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.models.audio_adapter import slot_indices
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import AudioAdapterConfig, DiTConfig
from stableavatar_jax.models.dit import DiT, patchify, unpatchify
from stableavatar_jax.models.dit_block import Block, Evaluation
from stableavatar_jax.models.flops import dit_flops
from stableavatar_jax.models.rope import rope_tables, sinusoid
from stableavatar_jax.sharding import initialise
from tests.params import abstract_params, random_params

CONFIG = DiTConfig(
    dim=48, ffn_dim=64, heads=2, layers=3, text_dim=12, text_len=6, image_dim=10, time_dim=16,
    adapter=AudioAdapterConfig(audio_dim=8, dim=48),
)
SHAPE = (3, 4, 6)  # latent frames, rows, columns


def inputs(batch: int = 2) -> tuple:
    key = iter(jax.random.split(jax.random.key(1), 8))
    normal = lambda *shape: jax.random.normal(next(key), shape)  # noqa: E731
    return (
        normal(batch, *SHAPE, 16), jnp.linspace(100.0, 900.0, batch), normal(batch, *SHAPE, 20),
        normal(batch, 5, 12), jnp.arange(5)[None] < jnp.asarray([[5]] * (batch - 1) + [[3]]),
        normal(batch, 7, 10), normal(batch, 17, 8),
    )


@pytest.fixture(scope="module")
def params():
    return random_params(DiT(CONFIG))


def forward(config, params, *args, compute=Compute(), **kwargs):  # noqa: B008
    return jax.jit(lambda p: DiT(config, compute).apply({"params": p}, *args, **kwargs))(params)


def test_scan_equals_plain_loop(params):
    """The blocks one by one, each with its own slice of the stacked parameters."""
    z, t, reference, text, mask, image, audio = inputs()

    def plain(params):
        bound = DiT(CONFIG).bind({"params": params})
        x = bound.patch_embedding(patchify(jnp.concatenate([z, reference], -1), CONFIG.patch))
        x = x.reshape(len(t), -1, CONFIG.dim)
        e = bound.time_embedding(sinusoid(t, CONFIG.time_dim))
        e0 = bound.time_projection(nn.silu(e)).reshape(len(t), 6, CONFIG.dim)
        slots = bound.slots(audio, SHAPE[0])
        refined = bound.audio_adapter.refine(slots.tokens, x.reshape(len(t), SHAPE[0], -1, CONFIG.dim), e, e0)
        grid = (SHAPE[0], SHAPE[1] // 2, SHAPE[2] // 2)
        shared = Evaluation(e0, refined, None, rope_tables(grid, CONFIG.dim // CONFIG.heads), False)
        context = bound.context(text, mask, image)
        for i in range(CONFIG.layers):
            layer = jax.tree.map(lambda a, i=i: a[i], params["blocks"])
            text_kv, image_kv = jax.tree.map(lambda a, i=i: a[i], tuple(context))
            x = Block(CONFIG).apply({"params": layer}, x, text_kv, image_kv, shared)
        shift, scale = (params["head_modulation"][i] + e[:, None] for i in range(2))
        x = bound.head(bound.head_norm(x) * (1 + scale) + shift)
        return unpatchify(x.reshape(len(t), *grid, -1), CONFIG.patch)

    np.testing.assert_allclose(jax.jit(plain)(params), forward(CONFIG, params, *inputs()), atol=2e-5, rtol=2e-5)


def test_rows_are_independent(params):
    whole = forward(CONFIG, params, *inputs())
    evaluate = jax.jit(lambda params, *args: DiT(CONFIG).apply({"params": params}, *args))
    for row in range(2):
        alone = evaluate(params, *(x[row : row + 1] for x in inputs()))
        np.testing.assert_allclose(whole[row], alone[0], atol=1e-5, rtol=1e-5)


def test_clip_level_is_the_same_static_and_traced(params):
    static = [forward(CONFIG, params, *inputs(), clip_level=flag) for flag in (False, True)]
    traced = [forward(CONFIG, params, *inputs(), clip_level=jnp.asarray(flag)) for flag in (False, True)]
    np.testing.assert_allclose(static, traced, atol=1e-5)
    assert np.abs(static[0] - static[1]).max() > 1e-3


def test_audio_is_silent_at_birth():
    """A new model says the same with and without sound, so a Wan2.1 backbone starts undisturbed."""
    fresh = initialise(DiT(CONFIG), jax.random.key(0))
    *rest, audio = inputs()
    same = forward(CONFIG, fresh, *rest, audio), forward(CONFIG, fresh, *rest, jnp.zeros_like(audio))
    np.testing.assert_array_equal(*same)


def test_bfloat16_stays_close(params):
    """Stated distance: bfloat16 velocities lie within 3% (relative L2) of float32's."""
    low = forward(CONFIG, params, *inputs(), compute=Compute(dtype="bfloat16"))
    high = forward(CONFIG, params, *inputs())
    assert low.dtype == jnp.bfloat16
    assert jnp.linalg.norm(low.astype(jnp.float32) - high) / jnp.linalg.norm(high) < 0.03


@pytest.mark.parametrize("ablation", ["project", "no_modulation", "random_modulation", "no_cross_attention"])
def test_ablations_run_and_differ(params, ablation):
    config = dataclasses.replace(CONFIG, adapter=dataclasses.replace(CONFIG.adapter, ablation=ablation))
    cut = _subtree(params, abstract_params(DiT(config)))
    out = forward(config, cut, *inputs())
    assert np.isfinite(out).all() and np.abs(out - forward(CONFIG, params, *inputs())).max() > 1e-4


def _subtree(tree, like):
    return {k: _subtree(tree[k], v) if isinstance(v, dict) else tree[k] for k, v in like.items()}


def test_patches_come_back():
    z = jax.random.normal(jax.random.key(0), (2, *SHAPE, 16))
    tokens = patchify(z, (1, 2, 2))
    channels_inside = tokens.reshape(*tokens.shape[:-1], 16, 4).swapaxes(-1, -2).reshape(tokens.shape)
    np.testing.assert_array_equal(unpatchify(channels_inside, (1, 2, 2)), z)


def test_too_few_frames_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        slot_indices(50, 1, 4)


def test_flops_of_the_released_size():
    """The released evaluation, 81 frames at 480x832, by hand: 30 blocks of 32760 tokens."""
    tokens, dim = 21 * 30 * 52, 1536
    attention_alone = 30 * 4 * tokens**2 * dim
    projections = 30 * (12 * tokens * dim**2 + 4 * tokens * dim * 8960)
    total = dit_flops(DiTConfig(), (21, 60, 104))
    assert attention_alone + projections < total < 1.05 * (attention_alone + projections)
    assert dit_flops(DiTConfig(), (21, 60, 104), branches=3) < 3 * total  # the adapter is shared
