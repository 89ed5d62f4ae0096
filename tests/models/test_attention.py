"""Attention: what computes it, by the list; and that all of it computes the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.attention import attention, attention_parts, kernels, route
from stableavatar_jax.models.attention.few import few
from stableavatar_jax.models.compute import Compute, settle
from tests.models.devices import CPU, GPU, TPU

FAST = {"gpu": Compute(dtype="bfloat16", platform="gpu", attention="cudnn"),
        "fp8": Compute(dtype="bfloat16", platform="gpu", attention="cudnn_fp8"),
        "tpu": Compute(dtype="bfloat16", platform="tpu", attention="splash")}


def draw(queries, keys, heads=2, size=8, rows=2, dtype=jnp.float32):
    lengths = queries, keys, keys
    return [jax.random.normal(jax.random.key(i), (rows, n, heads, size)).astype(dtype) for i, n in enumerate(lengths)]


@pytest.mark.parametrize(("queries", "keys"), [(700, 1300), (1025, 5), (3, 2100)])
@pytest.mark.parametrize("limited", [False, True])
def test_chunks_equal_the_whole(queries, keys, limited):
    q, k, v = draw(queries, keys)
    lengths = jnp.asarray([keys, keys // 2]) if limited else None
    whole = lambda q, k, v: jax.nn.dot_product_attention(q, k, v, key_value_seq_lengths=lengths)  # noqa: E731
    ours = lambda q, k, v: attention(q, k, v, Compute(), lengths=lengths)  # noqa: E731
    np.testing.assert_allclose(ours(q, k, v), whole(q, k, v), atol=2e-5)
    loss = lambda f: jax.grad(lambda *a: jnp.square(f(*a)).sum(), argnums=(0, 1, 2))(q, k, v)  # noqa: E731
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-5), loss(ours), loss(whole))


@pytest.mark.parametrize("keys", [40, 1400])
def test_a_row_without_keys_reads_zero(keys):
    q, k, v = draw(4, keys)
    assert not attention(q, k, v, Compute(), lengths=jnp.zeros(2, jnp.int32)).any()


@pytest.mark.parametrize(("keys", "lengths"), [(5, None), (16, [16, 3]), (15, [0, 15])])
def test_few_keys_of_all_heads_at_once_equal_the_plain_products(keys, lengths):
    q, k, v = draw(30, keys)
    lengths = None if lengths is None else jnp.asarray(lengths)
    plain = lambda q, k, v: attention(q, k, v, Compute(), lengths=lengths)  # noqa: E731
    ours = lambda q, k, v: few(q, k, v, lengths, q.shape[-1] ** -0.5)  # noqa: E731
    square = lambda f: lambda *a: jnp.square(f(*a)).sum()  # noqa: E731
    np.testing.assert_allclose(ours(q, k, v), plain(q, k, v), atol=1e-6)
    own, grads = (jax.grad(square(f), (0, 1, 2))(q, k, v) for f in (ours, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), own, grads)


@pytest.mark.parametrize("keys", [60, 2100])
def test_parts_over_two_halves_of_the_keys_merge_to_the_whole(keys):
    q, k, v = draw(5, keys)
    half = keys // 3
    (a, log_a), (b, log_b) = (attention_parts(q, k[:, s], v[:, s], Compute()) for s in (slice(half), slice(half, None)))
    share = jax.nn.sigmoid(log_a - log_b).swapaxes(1, 2)[..., None]
    np.testing.assert_allclose(share * a + (1 - share) * b, attention(q, k, v, Compute()), atol=1e-5)
    assert log_a.dtype == jnp.float32


@pytest.mark.parametrize(("asked", "shape", "keys", "options", "by"), [
    ("gpu", (1, 32760, 12, 128), 32760, {}, "cudnn"),
    ("gpu", (1, 32760, 12, 128), 512, {}, "cudnn"),
    ("gpu", (3, 32760, 12, 128), 315, {"limited": True}, "cudnn"),
    ("gpu", (21, 1560, 12, 128), 15, {}, "few"),  # an audio slot
    ("gpu", (21, 15, 8, 192), 1560, {}, "direct"),  # the adapter: few queries, and too large a head
    ("gpu", (1, 512, 64, 64), 512, {"biased": True}, "direct"),  # the text encoder
    ("gpu", (1, 6240, 1, 384), 6240, {}, "direct"),  # the autoencoder: one head too large
    ("gpu", (1, 32760, 12, 192), 32760, {}, "chunked"),
    ("gpu", (1, 32760, 12, 100), 32760, {}, "chunked"),
    ("gpu", (1, 32760, 12, 128), 32760, {"dtype": "float32"}, "chunked"),
    ("fp8", (1, 32760, 12, 128), 32760, {}, "cudnn_fp8"),
    ("fp8", (1, 32760, 12, 128), 315, {"limited": True}, "cudnn"),  # fp8 takes no lengths
    ("fp8", (21, 1560, 12, 128), 15, {}, "few"),
    ("tpu", (1, 32760, 12, 128), 32760, {}, "splash"),
    ("tpu", (1, 32760, 12, 64), 32760, {}, "chunked"),
    ("tpu", (21, 1560, 12, 128), 15, {"limited": True}, "few"),
    ("tpu", (21, 1560, 12, 128), 17, {}, "direct"),
])  # fmt: skip
def test_what_computes_what(asked, shape, keys, options, by):
    options = {"dtype": "bfloat16", "biased": False, "limited": False} | options
    dtype = options.pop("dtype")
    assert route(FAST[asked], shape, keys, dtype, **options) == by


@pytest.mark.parametrize(("device", "dtype", "size", "kernel"), [
    (GPU, "bfloat16", 128, "cudnn"), (GPU, "float32", 128, "chunked"), (GPU, "bfloat16", 192, "chunked"),
    (TPU, "bfloat16", 128, "splash"), (TPU, "bfloat16", 24, "chunked"), (CPU, "bfloat16", 128, "chunked"),
])  # fmt: skip
def test_auto_is_settled_by_the_device(device, dtype, size, kernel):
    assert settle(device, dtype, head_size=size).attention == kernel


@pytest.mark.parametrize(("device", "dtype", "options", "words"), [
    (CPU, "bfloat16", {"attention": "cudnn"}, "runs on a GPU, and the program is made for a CPU"),
    (GPU, "bfloat16", {"attention": "splash"}, "runs on a TPU"),
    (GPU, "float32", {"attention": "cudnn"}, "the dtype is float32"),
    (GPU, "bfloat16", {"attention": "cudnn", "head_size": 130}, "heads of size 130"),
    (GPU, "bfloat16", {"attention": "cudnn_fp8", "head_size": 120}, "heads of size 120"),
    (GPU, "bfloat16", {"attention": "cudnn_fp8", "remat": "full"}, "no backward pass"),
])  # fmt: skip
def test_a_forced_kernel_says_what_it_cannot_do(device, dtype, options, words):
    with pytest.raises(Mistake, match=words):
        settle(device, dtype, **options)


@pytest.fixture
def a_gpu_is_said_to_be_there(monkeypatch):
    """cuDNN's version and the chip's capability, which JAX asks while it traces for a GPU that is not here."""
    from jax._src.cudnn import fused_attention_stablehlo as beneath

    monkeypatch.setattr(beneath, "check_cudnn_version", lambda: 91900)
    monkeypatch.setattr(beneath, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(beneath, "is_cuda_compute_capability_equal", lambda capability: False)


@pytest.mark.parametrize(("asked", "keys", "limited", "call"), [
    ("gpu", 300, False, "__cudnn$fmhaSoftmax"), ("gpu", 300, True, "__cudnn$fmhaSoftmax"),
    ("fp8", 300, False, "__cudnn$fmhaSoftmaxF8"), ("gpu", 15, True, None),
])  # fmt: skip
def test_a_program_for_a_gpu_holds_cudnns_call(asked, keys, limited, call, a_gpu_is_said_to_be_there):
    q, k, v = draw(256, keys, size=64, dtype=jnp.bfloat16)
    lengths = jnp.full(2, keys - 1) if limited else None
    run = jax.jit(lambda q, k, v: attention(q, k, v, FAST[asked], lengths=lengths))
    text = run.trace(q, k, v).lower(lowering_platforms=("cuda",)).as_text()
    assert (call in text) if call else ("cudnn" not in text)


@pytest.mark.parametrize("keys", [257, 512, 226, 255])
def test_gradients_for_a_gpu_take_any_number_of_keys(keys, a_gpu_is_said_to_be_there):
    """cuDNN's backward pass refuses odd numbers: 257 tokens of a picture, 255 queries."""
    shapes = [jax.ShapeDtypeStruct((1, n, 2, 64), jnp.bfloat16) for n in (512 - keys % 2, keys, keys)]
    loss = lambda q, k, v: attention(q, k, v, FAST["gpu"]).astype(jnp.float32).sum()  # noqa: E731
    text = jax.jit(jax.grad(loss, (0, 1, 2))).trace(*shapes).lower(lowering_platforms=("cuda",)).as_text()
    assert "__cudnn$fmhaSoftmaxBackward" in text


def test_a_program_for_a_tpu_holds_splash():
    q, k, v = draw(256, 300, size=128, dtype=jnp.bfloat16)
    run = jax.jit(lambda q, k, v: attention(q, k, v, FAST["tpu"]))
    assert "tpu_custom_call" in run.trace(q, k, v).lower(lowering_platforms=("tpu",)).as_text()


@functools.cache
def small():
    return draw(130, 200, heads=1, size=128, rows=1)


@pytest.mark.parametrize("limited", [False, True])
def test_splash_equals_the_whole(limited):
    """Interpreted: padded blocks, lengths, statistics; and gradients."""
    q, k, v = small()
    lengths = jnp.asarray([150]) if limited else None
    plain = lambda q, k, v: attention(q, k, v, Compute(), lengths=lengths)  # noqa: E731
    ours = lambda q, k, v: kernels.splash(q, k, v, lengths, 128**-0.5, chip="", interpret=True)  # noqa: E731
    square = lambda f: lambda *a: jnp.square(f(*a)).sum()  # noqa: E731
    want, grads = jax.value_and_grad(square(plain), (0, 1, 2))(q, k, v)
    have, own = jax.value_and_grad(square(ours), (0, 1, 2))(q, k, v)
    np.testing.assert_allclose(have, want, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), own, grads)
