"""Laws of the image encoder and of the resize in front of it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from stableavatar_jax.models.clip_vision import CLIPVision, bicubic_weights, resize_bicubic
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import CLIPVisionConfig
from tests.params import random_params

CONFIG = CLIPVisionConfig(image_size=16, patch=4, dim=32, mlp_ratio=2, heads=4, layers=3, embedding_dim=12)
IMAGES = jax.random.uniform(jax.random.key(1), (2, 20, 13, 3), minval=-1)


@pytest.fixture(scope="module")
def params():
    return random_params(CLIPVision(CONFIG))


@partial(jax.jit, static_argnames=("output", "config", "compute"))
def encode(params, images=IMAGES, output="tokens", config=CONFIG, compute=Compute()):  # noqa: B008
    return CLIPVision(config, compute).apply({"params": params}, images, output)


def test_tokens_and_embedding(params):
    assert encode(params).shape == (2, 1 + 16, 32)
    assert encode(params, output="embedding").shape == (2, 12)


def test_rows_of_a_batch_are_apart(params):
    np.testing.assert_allclose(encode(params)[1:], encode(params, IMAGES[1:]), atol=1e-5)


def test_last_layer_and_head_touch_the_embedding_alone(params):
    changed = {name: jax.tree.map(lambda p: p + 1, params[name]) for name in ("last_layer", "post_norm", "head")}
    np.testing.assert_array_equal(encode(params), encode(params | changed))
    for name in changed:
        other = encode(params | {name: changed[name]}, output="embedding")
        assert float(abs(other - encode(params, output="embedding")).max()) > 1e-3, name


def test_tokens_do_not_pay_for_the_last_layer(params):
    cost = lambda output: (  # noqa: E731
        encode.lower(params, output=output).compile().cost_analysis()["flops"]
    )
    assert cost("tokens") < 0.75 * cost("embedding")


def test_bfloat16_stays_near_float32(params):
    exact, out = encode(params), encode(params, compute=Compute(dtype="bfloat16"))
    assert out.dtype == jnp.bfloat16
    assert float(jnp.linalg.norm(out.astype(jnp.float32) - exact) / jnp.linalg.norm(exact)) < 0.02


@pytest.mark.parametrize(("old", "new"), [(5, 5), (4, 9), (60, 16), (480, 224), (1, 7)])
def test_resize_keeps_constants_and_mirrors(old, new):
    weights = bicubic_weights(old, new)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-6)
    assert (np.count_nonzero(weights, axis=1) <= 4).all()  # no antialias: four taps, however much smaller
    if old == new:
        np.testing.assert_array_equal(weights, np.eye(old))


def test_resize_agrees_with_pillow_inside_an_enlarged_picture():
    """Pillow's cubic has a = -0.5 and other edges; away from them, four times as large, no antialias plays a part."""
    old = np.asarray(IMAGES[0, :12, :12, 0])
    pillow = np.asarray(Image.fromarray(old).resize((48, 48), Image.Resampling.BICUBIC))
    weights = bicubic_weights(12, 48, a=-0.5)
    np.testing.assert_allclose((weights @ old @ weights.T)[8:-8, 8:-8], pillow[8:-8, 8:-8], atol=1e-5)


def test_resize_treats_height_and_width_as_such():
    rows = jnp.broadcast_to(jnp.linspace(-1, 1, 20)[:, None, None], (20, 13, 3))[None]
    small = resize_bicubic(rows, 8)
    assert small.shape == (1, 8, 8, 3)
    np.testing.assert_allclose(small, jnp.broadcast_to(small[:, :, :1], small.shape), atol=1e-6)
    assert (jnp.diff(small[0, :, 0, 0]) > 0).all()
