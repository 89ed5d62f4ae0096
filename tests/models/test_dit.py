"""Laws of the transformer that need no reference: loops, branches, rows, dtypes."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.models.attention import attention
from stableavatar_jax.models.audio_adapter import slot_indices
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


def forward(config, params, *args, **kwargs):
    return jax.jit(lambda p: DiT(config).apply({"params": p}, *args, **kwargs))(params)


@pytest.mark.parametrize("changes", [{"unroll": 3}, {"remat": "full"}])
def test_loop_forms_agree(params, changes):
    other = dataclasses.replace(CONFIG, **changes)

    def loss(config):
        return jax.jit(jax.value_and_grad(lambda p: DiT(config).apply({"params": p}, *inputs()).sum()))(params)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4, rtol=2e-4), loss(CONFIG), loss(other))


def test_scan_equals_plain_loop(params):
    """The blocks one by one, each with its own slice of the stacked parameters."""
    z, t, reference, text, mask, image, audio = inputs()

    def plain(params):
        bound = DiT(CONFIG).bind({"params": params})
        x = bound.patch_embedding(patchify(jnp.concatenate([z, reference], -1), CONFIG.patch))
        e = bound.time_embedding(sinusoid(t, CONFIG.time_dim))
        e0 = bound.time_projection(nn.silu(e)).reshape(len(t), 6, CONFIG.dim)
        slots = bound.slots(audio, SHAPE[0])
        refined = bound.audio_adapter.refine(slots.tokens, x.reshape(len(t), SHAPE[0], -1, CONFIG.dim), e, e0)
        grid = (SHAPE[0], SHAPE[1] // 2, SHAPE[2] // 2)
        shared = Evaluation(e0, refined, None, rope_tables(grid, CONFIG.dim // CONFIG.heads), False)
        context = bound.context(text[:, None], mask[:, None], image)
        for i in range(CONFIG.layers):
            layer = jax.tree.map(lambda a, i=i: a[i], params["blocks"])
            text_kv, image_kv = tuple(a[i][:, 0] for a in context.text), tuple(a[i] for a in context.image)
            x = Block(CONFIG).apply({"params": layer}, x, text_kv, image_kv, shared)
        shift, scale = (params["head_modulation"][i] + e[:, None] for i in range(2))
        return unpatchify(bound.head(bound.head_norm(x) * (1 + scale) + shift), grid, CONFIG.patch)

    np.testing.assert_allclose(jax.jit(plain)(params), forward(CONFIG, params, *inputs()), atol=2e-5, rtol=2e-5)


def test_branches_equal_evaluations_alone(params):
    z, t, reference, text, mask, image, audio = inputs()
    branches = ((0, 0), (1, 1), (1, None))

    @functools.partial(jax.jit, static_argnums=1)
    def run(params, branches):
        bound = DiT(CONFIG).bind({"params": params})
        context = bound.context(text[None], mask[None], image[:1])  # two texts, shared by all rows
        slots = bound.slots(jnp.concatenate([audio, jnp.zeros_like(audio)]), SHAPE[0])
        slots = slots._replace(tokens=slots.tokens.reshape(2, 2, *slots.tokens.shape[1:]).swapaxes(0, 1))
        return bound.velocity(z, t, reference, context, slots, branches=branches)

    together = run(params, branches)
    alone = jnp.concatenate([run(params, (branch,)) for branch in branches], 1)
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=1e-5)
    assert np.abs(together[:, 1] - together[:, 2]).max() > 1e-3  # silence is not the same as no audio


def test_adapter_runs_once_per_recording(params):
    """Three branches that share one recording cost one refinement: the slots' feed-forward appears once."""
    counts = {}
    for count in (1, 3):
        calls = []

        def spy(next_call, args, kwargs, context, calls=calls):
            if context.method_name == "refine":
                calls.append(args[0].shape)
            return next_call(*args, **kwargs)

        def evaluate(params, count=count):
            z, t, reference, text, mask, image, audio = inputs()
            bound = DiT(CONFIG).bind({"params": params})
            context = bound.context(text[:, None], mask[:, None], image)
            slots = bound.slots(audio, SHAPE[0])
            slots = slots._replace(tokens=slots.tokens[:, None])
            branches = ((0, 0), (0, None), (0, 0))[:count]
            return bound.velocity(z, t, reference, context, slots, branches=branches)

        with nn.intercept_methods(spy):
            jax.eval_shape(evaluate, params)
        counts[count] = calls
    assert counts[1] == counts[3] and len(counts[3]) == 1


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
    adapter = dataclasses.replace(CONFIG.adapter, dtype="bfloat16")
    low = forward(dataclasses.replace(CONFIG, adapter=adapter, dtype="bfloat16"), params, *inputs())
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
    channels_inside = tokens.reshape(*tokens.shape[:2], 16, 4).swapaxes(2, 3).reshape(tokens.shape)
    np.testing.assert_array_equal(unpatchify(channels_inside, (3, 2, 3), (1, 2, 2)), z)


@pytest.mark.parametrize(("queries", "keys"), [(700, 1300), (1025, 5), (3, 2100)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_chunks(queries, keys, masked):
    q, k, v = (jax.random.normal(jax.random.key(i), (2, n, 2, 8)) for i, n in enumerate((queries, keys, keys)))
    mask = jax.random.bernoulli(jax.random.key(3), 0.6, (2, keys)) if masked else None
    direct = lambda q, k, v: jax.nn.dot_product_attention(  # noqa: E731
        q, k, v, mask=None if mask is None else mask[:, None, None]
    )
    ours = lambda q, k, v: attention(q, k, v, mask=mask)  # noqa: E731
    np.testing.assert_allclose(ours(q, k, v), direct(q, k, v), atol=2e-5)
    loss = lambda f: jax.grad(lambda *a: jnp.square(f(*a)).sum(), argnums=(0, 1, 2))(q, k, v)  # noqa: E731
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-5), loss(ours), loss(direct))


def test_a_row_without_keys_reads_zero():
    q = jnp.ones((1, 4, 1, 8))
    assert not attention(q, q, q, mask=jnp.zeros((1, 4), bool)).any()


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
