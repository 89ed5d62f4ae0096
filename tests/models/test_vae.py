"""Laws of the causal video autoencoder, at small sizes."""

import dataclasses
import functools
from typing import get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.models import causal_conv
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.models.config import VAEConfig
from stableavatar_jax.models.vae import VAE, reparameterise, sample

# Wan's plan with one stage, and one block a stage, fewer; direct convolutions compile in half the time.
SMALL = VAEConfig(dim=4, z_dim=4, dim_mult=(1, 2, 2), num_res_blocks=1, temporal_downsample=(True, True), conv="direct")
QUICK = {"xla_backend_optimization_level": 0}  # a third of the time to compile; the laws hold either way
ROUNDING = {"atol": 2e-5, "rtol": 1e-4}


@functools.cache
def params(config):
    """Weights of unit gain, so that every layer counts (PyTorch's initialiser damps)."""
    model = VAE(dataclasses.replace(config, conv="auto"))
    leaves, tree = jax.tree.flatten(nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *model.example())))
    rng = np.random.default_rng(0)
    drawn = [rng.standard_normal(leaf.shape, np.float32) for leaf in leaves]
    scaled = [w / np.sqrt(w[..., 0].size) if w.ndim > 1 else 1 + 0.1 * w for w in drawn]
    return jax.tree.unflatten(tree, scaled)


@functools.cache
def jitted(config, method, compute=Compute()):  # noqa: B008
    call = jax.jit(functools.partial(VAE(config, compute).apply, method=method), compiler_options=QUICK)
    return functools.partial(call, params(config))


def draw(*shape):
    return jnp.asarray(np.random.default_rng(1).uniform(-1, 1, shape), jnp.float32)


def in_chunks(call, x, sizes):
    """The results of a chunking, joined, and the last cache."""
    assert sum(sizes) == x.shape[1]
    *result, cache = call(x[:, : sizes[0]])
    results, start = [result], sizes[0]
    for size in sizes[1:]:
        *result, cache = call(x[:, start : start + size], cache)
        results.append(result)
        start += size
    return [jnp.concatenate(parts, axis=1) for parts in zip(*results, strict=True)], cache


@pytest.mark.parametrize("sizes", [(1, 4, 4), (5, 4), (1, 8)])
def test_encoding_in_chunks_is_encoding_the_whole(sizes):
    encode, video = jitted(SMALL, "encode"), draw(2, 9, 8, 12, 3)
    *whole, cache = encode(video)
    chunked, chunked_cache = in_chunks(encode, video, sizes)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), whole, chunked)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), cache, chunked_cache)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 2), (1, 3)])
def test_decoding_in_chunks_is_decoding_the_whole(sizes):
    decode, z = jitted(SMALL, "decode"), draw(2, 4, 2, 3, 4)
    whole, cache = decode(z)
    (chunked,), chunked_cache = in_chunks(decode, z, sizes)
    assert whole.shape == (2, 13, 8, 12, 3)
    assert 0.05 < np.abs(whole).mean() < 0.95  # neither nothing nor all clipped
    np.testing.assert_allclose(whole, chunked, **ROUNDING)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), cache, chunked_cache)


def test_chunks_of_one_size_are_traced_once():
    traces = []

    @functools.partial(jax.jit, compiler_options=QUICK)
    def decode(z, cache=None):
        traces.append(z.shape)
        return VAE(SMALL).apply(params(SMALL), z, cache, method="decode")

    in_chunks(decode, draw(1, 5, 1, 1, 4), (1, 1, 1, 2))
    assert traces == [(1, 1, 1, 1, 4), (1, 1, 1, 1, 4), (1, 2, 1, 1, 4)]  # the start, one latent frame, two


def test_the_first_frame_knows_nothing_of_the_others():
    mean, _, _ = jitted(SMALL, "encode")(draw(2, 9, 8, 12, 3))
    alone, _, _ = jitted(SMALL, "encode")(draw(2, 9, 8, 12, 3)[:, :1])
    np.testing.assert_allclose(alone[:, 0], mean[:, 0], **ROUNDING)


def test_a_tail_that_fills_no_latent_frame_is_dropped():
    video = draw(2, 9, 8, 12, 3)
    encode = functools.partial(VAE(SMALL).apply, params(SMALL), method="encode")
    shapes = [jax.eval_shape(encode, video[:, :frames])[0].shape[1] for frames in (1, 2, 4, 5, 8, 9)]
    assert shapes == [1, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("shape", "first", "complaint"),
    [((1, 5, 8, 10, 3), True, "multiples of 4"), ((1, 5, 8, 8, 3), False, "a multiple of 4")],
)
def test_chunks_that_do_not_fit_are_refused(shape, first, complaint):
    encode = functools.partial(VAE(SMALL).apply, params(SMALL), method="encode")
    cache = None if first else jax.eval_shape(encode, draw(1, 1, 8, 8, 3))[-1]
    with pytest.raises(ValueError, match=complaint):
        jax.eval_shape(encode, draw(*shape), cache)


@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1), (1, 3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [6, 7, 8, 10])  # 4, 5, 6 and 8 outputs of 3 taps
def test_every_form_is_the_direct_convolution(kernel, stride, frames):
    x, weights = draw(2, frames, 5, 6, 3), draw(*kernel, 3, 4)
    made = {form: causal_conv.convolve(x, weights, stride=stride, form=form) for form in get_args(causal_conv.Form)}
    direct = made.pop("direct")
    assert direct.shape == (2, (frames - kernel[0]) // stride + 1, 5, 6, 4)
    for out in made.values():
        assert out.shape == direct.shape
        np.testing.assert_allclose(out, direct, atol=1e-5)


def test_a_doubled_frame_is_convolved_in_its_half_size():
    x, weights = draw(2, 3, 5, 6, 3), draw(3, 3, 3, 4)
    few, plain = (causal_conv.convolve_doubled(x, weights, form=form) for form in ("winograd", "direct"))
    assert few.shape == plain.shape == (2, 3, 10, 12, 4)
    np.testing.assert_allclose(few, plain, atol=1e-5)


@pytest.mark.parametrize("form", get_args(causal_conv.Form))
@pytest.mark.parametrize(("frames", "stride"), [(1, 1), (2, 1), (3, 1), (4, 2), (2, 2)])
def test_zeros_before_the_video_are_never_computed(form, frames, stride):
    """The result is that of a video that begins with zeros; one frame alone takes one tap."""
    x, weights = draw(2, frames, 5, 6, 3), draw(3, 3, 3, 3, 4)
    before = 3 - stride
    padded = jnp.pad(x, ((0, 0), (before, 0), (0, 0), (0, 0), (0, 0)))
    whole = causal_conv.convolve(padded, weights, stride=stride, form=form)
    skipped = causal_conv.convolve(x, weights, before=before, stride=stride, form=form)
    np.testing.assert_allclose(skipped, whole, atol=1e-5)
    assert skipped.shape == whole.shape


@pytest.mark.parametrize("form", get_args(causal_conv.Form))
def test_one_frame_is_one_convolution(form):
    x, weights = draw(1, 1, 4, 4, 2), draw(3, 3, 3, 2, 2)
    changed = weights.at[:2].set(jnp.nan)  # taps of frames that are not there
    np.testing.assert_array_equal(
        causal_conv.convolve(x, changed, before=2, form=form), causal_conv.convolve(x, weights, before=2, form=form)
    )


def test_winograd_is_the_direct_convolution_in_the_whole():
    """Chunks of one latent frame, as on a CPU: layers have one frame, two and four."""
    z = draw(2, 3, 2, 3, 4)
    winograd, _ = in_chunks(jitted(dataclasses.replace(SMALL, conv="winograd"), "decode"), z, (1, 1, 1))
    np.testing.assert_allclose(winograd[0], jitted(SMALL, "decode")(z)[0], **ROUNDING)


@pytest.mark.parametrize(("config", "reach"), [(VAEConfig(dim=2, conv="direct"), 38), (SMALL, 28)])
def test_the_decoder_reaches_so_many_latent_frames_back(config, reach):
    """A NaN is seen by all that is computed from it: so many latent frames on, and no further."""
    assert config.decoder_reach() == reach
    decode = jitted(config, "decode")
    _, cache = decode(jnp.full((1, 1, 1, 1, config.z_dim), jnp.nan))
    seen = []
    for _ in range(reach + 1):
        frames, cache = decode(jnp.ones((1, 1, 1, 1, config.z_dim)), cache)
        seen.append(bool(jnp.isnan(frames).any()))
    assert seen == [True] * reach + [False]


def test_a_cache_is_rebuilt_from_the_latents_within_reach():
    decode, reach = jitted(SMALL, "decode"), SMALL.decoder_reach()
    z = draw(1, reach + 4, 1, 1, 4)
    (whole,), cache = in_chunks(decode, z, (1,) * (reach + 4))
    _, rebuilt = in_chunks(decode, z[:, 2:-2], (1,) * reach)
    (resumed,), rebuilt = in_chunks(lambda z, past=rebuilt: decode(z, past), z[:, -2:], (1, 1))
    np.testing.assert_array_equal(resumed, whole[:, -8:])
    jax.tree.map(np.testing.assert_array_equal, cache, rebuilt)


def test_bfloat16_stays_close():
    """At this depth 50 dB for latents and frames, of a signal between -1 and 1 (peak 2)."""
    half = Compute(dtype="bfloat16")
    video, z = draw(2, 9, 8, 12, 3), draw(2, 4, 2, 3, 4)
    frames, half_frames = jitted(SMALL, "decode")(z)[0], jitted(SMALL, "decode", half)(z)[0]
    mean, half_mean = jitted(SMALL, "encode")(video)[0], jitted(SMALL, "encode", half)(video)[0]
    assert half_frames.dtype == half_mean.dtype == jnp.float32
    psnr = lambda a, b: -10 * np.log10(np.square((a - b) / 2).mean())  # noqa: E731
    assert psnr(frames, half_frames) > 50
    assert psnr(mean, half_mean) > 50


def test_gradients_reach_every_weight():
    def loss(variables, video):
        return jnp.square(VAE(SMALL).apply(variables, video) - video).mean()

    grads = jax.jit(jax.grad(loss), compiler_options=QUICK)(params(SMALL), 0.1 * draw(1, 5, 8, 8, 3))
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(grad).all() and np.abs(grad).max() > 0, jax.tree_util.keystr(path)


def test_the_posteriors_noise_is_not_normalised():
    mean, logvar = draw(2, 3, 4, 5, 4), draw(2, 3, 4, 5, 4)
    key = jax.random.key(3)
    noise = jax.random.normal(key, mean.shape)
    np.testing.assert_array_equal(sample(key, mean, logvar), mean + jnp.exp(logvar / 2) * noise)
    np.testing.assert_array_equal(reparameterise(mean, logvar, jnp.zeros_like(mean)), mean)


def test_configs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="between every two stages"):
        VAEConfig(dim_mult=(1, 2))
    with pytest.raises(ValueError, match="17 latent channels"):
        VAEConfig(z_dim=17)
