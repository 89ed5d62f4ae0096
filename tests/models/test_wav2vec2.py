"""Laws of the audio encoder."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import Wav2Vec2Config
from stableavatar_jax.models.wav2vec2 import EncoderLayer, PositionConv, Wav2Vec2
from tests.params import random_params

CONFIG = Wav2Vec2Config(
    dim=24, ffn_dim=32, heads=3, layers=2, conv_dims=(16,) * 7, position_kernel=6, position_groups=4
)
SOUND = jax.random.normal(jax.random.key(1), (2, 4000))


@pytest.fixture(scope="module")
def params():
    return random_params(Wav2Vec2(CONFIG))


@partial(jax.jit, static_argnames=("config", "compute"))
def encode(params, sound=SOUND, masked=None, config=CONFIG, compute=Compute()):  # noqa: B008
    return Wav2Vec2(config, compute).apply({"params": params}, sound, masked)


@pytest.mark.parametrize("samples", [400, 719, 720, 1039, 4000])
def test_output_length_is_the_length_of_the_output(samples, params):
    out = jax.eval_shape(encode, params, jax.ShapeDtypeStruct((1, samples), jnp.float32))
    assert out.shape == (1, CONFIG.output_length(samples), CONFIG.dim)


def test_fifty_features_a_second():
    assert [Wav2Vec2Config().output_length(n) for n in (16000, 51840, 160_000)] == [49, 161, 499]
    assert [Wav2Vec2Config().output_length(n) for n in (0, 1, 399)] == [0, 0, 0]


def test_too_short_a_sound_is_an_error(params):
    with pytest.raises(ValueError, match="399 samples are too few"):
        encode(params, SOUND[:, :399])


def test_rows_of_a_batch_are_apart(params):
    np.testing.assert_allclose(encode(params)[1:], encode(params, SOUND[1:]), atol=1e-5)


def test_loudness_does_not_matter(params):
    """The first norm divides it out; so the features differ by rounding and the norm's epsilon alone."""
    np.testing.assert_allclose(encode(params), encode(params, 3 * SOUND), atol=1e-3)


def test_masked_features_read_nothing_of_the_sound(params):
    length = CONFIG.output_length(SOUND.shape[1])
    out = encode(params, masked=jnp.ones((2, length), bool))
    np.testing.assert_allclose(out[0], out[1], atol=1e-6)
    np.testing.assert_array_equal(encode(params), encode(params, masked=jnp.zeros((2, length), bool)))


def test_stack_is_one_layer_after_another(params):
    none = {**params, "layers": jax.tree.map(lambda p: p[:0], params["layers"])}
    x = encode(none, config=replace(CONFIG, layers=0))
    apply = jax.jit(EncoderLayer(CONFIG).apply)
    for i in range(CONFIG.layers):
        x = apply({"params": jax.tree.map(lambda p: p[i], params["layers"])}, x)  # noqa: B023
    np.testing.assert_allclose(encode(params), x, atol=1e-5)


@pytest.mark.parametrize("taps", [5, 6])
def test_position_conv_equals_its_sum(taps):
    """Tap by tap in NumPy: the weight's norm, the groups, and where an even number of taps lies."""
    config = replace(CONFIG, dim=8, position_kernel=taps, position_groups=2)
    rng = np.random.default_rng(2)
    x, gain, kernel = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 7, 8), (taps,), (taps, 4, 8)))
    kernel_normed = kernel * (gain / np.sqrt((kernel**2).sum((1, 2))))[:, None, None]
    expected = np.zeros_like(x)
    for frame in range(7):
        for tap in range(taps):
            if 0 <= frame + tap - taps // 2 < 7:
                for group in (slice(0, 4), slice(4, 8)):
                    expected[:, frame, group] += x[:, frame + tap - taps // 2, group] @ kernel_normed[tap][:, group]
    params = {"gain": gain, "kernel": kernel, "bias": np.zeros(8, np.float32)}
    out = jax.jit(PositionConv(config).apply)({"params": params}, x)
    np.testing.assert_allclose(out, jax.nn.gelu(expected, approximate=False), atol=1e-5)


def test_bfloat16_stays_near_float32(params):
    exact, out = encode(params), encode(params, compute=Compute(dtype="bfloat16"))
    assert out.dtype == jnp.bfloat16
    assert float(jnp.linalg.norm(out.astype(jnp.float32) - exact) / jnp.linalg.norm(exact)) < 0.03
