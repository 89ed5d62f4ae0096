"""Laws of the text encoder."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import UMT5Config
from stableavatar_jax.models.umt5 import UMT5, EncoderLayer, distance_bucket
from tests.params import random_params

CONFIG = UMT5Config(vocab=50, dim=32, attention_dim=48, ffn_dim=40, heads=4, layers=3, buckets=8, max_distance=16)
IDS = jax.random.randint(jax.random.key(1), (2, 11), 0, CONFIG.vocab)
MASK = jnp.arange(11) < jnp.array([[11], [6]])


@pytest.fixture(scope="module")
def params():
    return random_params(UMT5(CONFIG))


@partial(jax.jit, static_argnames=("config", "compute"))
def encode(params, ids=IDS, mask=MASK, config=CONFIG, compute=Compute()):  # noqa: B008
    return UMT5(config, compute).apply({"params": params}, ids, mask)


def test_padding_changes_no_token(params):
    out = encode(params)
    other = encode(params, jnp.where(MASK, IDS, 7))
    np.testing.assert_array_equal(out[MASK], other[MASK])
    short = encode(params, IDS[:, :6], MASK[:, :6])
    np.testing.assert_allclose(out[1, :6], short[1], atol=1e-5)


def test_rows_of_a_batch_are_apart(params):
    np.testing.assert_allclose(encode(params)[1:], encode(params, IDS[1:], MASK[1:]), atol=1e-5)


def test_a_row_of_nothing_but_padding_reads_all_of_it_alike(params):
    """As in the reference: distances play no part then, so turned tokens give turned rows."""
    nothing = jnp.zeros_like(MASK)
    np.testing.assert_allclose(
        encode(params, mask=nothing), encode(params, IDS[:, ::-1], mask=nothing)[:, ::-1], atol=1e-5
    )


def test_order_of_tokens_matters(params):
    out, turned = encode(params)[0], encode(params, IDS[:, ::-1])[0]
    assert float(abs(out - turned[::-1]).max()) > 0.05


def test_stack_is_one_layer_after_another(params):
    x = params["token_embedding"][IDS]
    apply = jax.jit(EncoderLayer(CONFIG).apply)
    for i in range(CONFIG.layers):
        x = apply({"params": jax.tree.map(lambda p: p[i], params["layers"])}, x, MASK)  # noqa: B023
    x = x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True)) * params["norm"]["scale"]
    np.testing.assert_allclose(encode(params), x, atol=1e-5)


def test_shared_bias_is_the_same_bias_in_every_layer(params):
    table = params["layers"]["position_bias"]["table"][0]
    shared = {**params, "layers": {**params["layers"]}, "position_bias": {"table": table}}
    del shared["layers"]["position_bias"]
    repeated = {**params, "layers": {**params["layers"], "position_bias": {"table": jnp.stack([table] * 3)}}}
    out = encode(shared, config=replace(CONFIG, shared_bias=True))
    np.testing.assert_allclose(out, encode(repeated), atol=1e-6)


def test_bfloat16_stays_near_float32(params):
    half = Compute(dtype="bfloat16", param_dtype="bfloat16")
    out = encode(jax.tree.map(lambda p: p.astype(jnp.bfloat16), params), compute=half)
    assert out.dtype == jnp.bfloat16
    exact = encode(params)
    distance = jnp.linalg.norm(out.astype(jnp.float32) - exact) / jnp.linalg.norm(exact)
    assert float(distance) < 0.02  # 0.4% rounding a step, over three layers


def test_buckets_grow_with_distance_and_tell_directions_apart():
    ahead, behind = distance_bucket(np.arange(1, 300)), distance_bucket(-np.arange(1, 300))
    np.testing.assert_array_equal(ahead, behind + 16)
    assert (np.diff(behind) >= 0).all()
    np.testing.assert_array_equal(behind[:8], np.arange(1, 9))
    assert behind[128 - 1] == behind[-1] == 15
    assert distance_bucket(np.array([0])) == 0
