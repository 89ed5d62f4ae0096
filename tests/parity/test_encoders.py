"""The encoders against transformers in PyTorch: same weights through the converter's tables, same numbers out."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from stableavatar_jax.models.clip_vision import CLIPVision, normalise, resize_bicubic
from stableavatar_jax.models.config import CLIPVisionConfig, UMT5Config, Wav2Vec2Config
from stableavatar_jax.models.umt5 import UMT5
from stableavatar_jax.models.wav2vec2 import Wav2Vec2
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names import clip_vision, umt5, wav2vec2
from tests.params import abstract_params

torch = pytest.importorskip("torch", reason="torch is only in the environment of `make parity`")
transformers = pytest.importorskip("transformers")

UMT5_CONFIG = UMT5Config(vocab=60, dim=32, attention_dim=48, ffn_dim=40, heads=4, layers=3)
CLIP_CONFIG = CLIPVisionConfig(image_size=24, patch=4, dim=32, mlp_ratio=3, heads=4, layers=3, embedding_dim=12)
WAV2VEC2_CONFIG = Wav2Vec2Config(
    dim=48, ffn_dim=64, heads=4, layers=3, conv_dims=(24,) * 7, position_kernel=6, position_groups=4
)


def torch_umt5():
    c = UMT5_CONFIG
    config = transformers.UMT5Config(
        vocab_size=c.vocab, d_model=c.dim, d_kv=c.attention_dim // c.heads, d_ff=c.ffn_dim, num_layers=c.layers,
        num_heads=c.heads, relative_attention_num_buckets=c.buckets, relative_attention_max_distance=c.max_distance,
    )  # fmt: skip
    return seeded(transformers.UMT5EncoderModel(config))


def torch_clip(kind: str):
    c = CLIP_CONFIG
    config = transformers.CLIPVisionConfig(
        hidden_size=c.dim, intermediate_size=c.mlp_ratio * c.dim, num_hidden_layers=c.layers, hidden_act="gelu",
        num_attention_heads=c.heads, image_size=c.image_size, patch_size=c.patch, projection_dim=c.embedding_dim,
    )  # fmt: skip
    return seeded(getattr(transformers, kind)(config))


def torch_wav2vec2(kind: str):
    c = WAV2VEC2_CONFIG
    config = transformers.Wav2Vec2Config(
        hidden_size=c.dim, intermediate_size=c.ffn_dim, num_hidden_layers=c.layers, num_attention_heads=c.heads,
        conv_dim=c.conv_dims, num_conv_pos_embeddings=c.position_kernel, vocab_size=5,
        num_conv_pos_embedding_groups=c.position_groups, attn_implementation="eager",
    )  # fmt: skip
    return seeded(getattr(transformers, kind)(config))


def seeded(model):
    """The model with every weight drawn, norms and biases included."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            scale = 0.5 / weight[0].numel() ** 0.5 if weight.ndim > 1 else 0.1
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=scale)
    return model.eval()


def read_state(model, folder, by: str) -> dict[str, np.ndarray]:
    """The model's tensors as a file of that kind gives them back (safetensors holds tied ones once)."""
    if by == "pth":
        torch.save(model.state_dict(), folder / "model.pth")
        return {name: tensor.numpy() for name, tensor in torch.load(folder / "model.pth").items()}
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def brought_in(namings, config, model, source):
    naming = rules.choose(namings, config, source)
    params, report = rules.load(naming, config, source, abstract_params(model))
    exported = dict(rules.export(naming, config, params))
    for name in set(exported) - set(report.absent):
        np.testing.assert_array_equal(exported[name], source[name], err_msg=name)
    return {"params": params}, report


@pytest.mark.parametrize("by", ["pth", "safetensors"])
def test_umt5(by, tmp_path):
    theirs = torch_umt5()
    source = read_state(theirs, tmp_path, by)
    assert ("encoder.embed_tokens.weight" in source) == (by == "pth")
    params, _ = brought_in(umt5.NAMINGS, UMT5_CONFIG, UMT5(UMT5_CONFIG), source)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, UMT5_CONFIG.vocab, (2, 150))
    mask = np.arange(150) < np.array([[150], [37]])
    with torch.no_grad():
        expected = theirs(torch.tensor(ids), torch.tensor(mask).long()).last_hidden_state.numpy()
    out = jax.jit(UMT5(UMT5_CONFIG).apply)(params, ids.astype(np.int32), mask)
    np.testing.assert_allclose(out, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["CLIPVisionModelWithProjection", "CLIPVisionModel"])
def test_clip(kind, tmp_path):
    theirs = torch_clip(kind)
    params, report = brought_in(
        clip_vision.NAMINGS, CLIP_CONFIG, CLIPVision(CLIP_CONFIG), read_state(theirs, tmp_path, "safetensors")
    )
    images = np.random.default_rng(0).uniform(-1, 1, (2, 31, 18, 3)).astype(np.float32)
    pixels = normalise(resize_bicubic(images, CLIP_CONFIG.image_size))
    with torch.no_grad():
        expected = theirs(torch.tensor(np.moveaxis(np.asarray(pixels), -1, 1)), output_hidden_states=True)
    tokens, embedding = (
        jax.jit(CLIPVision(CLIP_CONFIG).apply, static_argnums=2)(params, images, output)
        for output in ("tokens", "embedding")
    )
    np.testing.assert_allclose(tokens, expected.hidden_states[-2].numpy(), atol=2e-5, rtol=1e-5)
    if kind == "CLIPVisionModel":
        assert report.absent == ("visual_projection.weight",)
    else:
        np.testing.assert_allclose(embedding, expected.image_embeds.numpy(), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("height", "width", "size"), [(31, 18, 24), (24, 24, 24), (9, 200, 24), (3, 2, 17)])
def test_resize(height, width, size):
    images = np.random.default_rng(0).uniform(-1, 1, (2, height, width, 3)).astype(np.float32)
    pixels = torch.tensor(np.moveaxis(images, -1, 1)).double()  # in float32 its own weights are 3e-5 off
    theirs = torch.nn.functional.interpolate(pixels, (size, size), mode="bicubic", align_corners=False)
    ours = np.moveaxis(np.asarray(resize_bicubic(images, size)), -1, 1)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", ["Wav2Vec2Model", "Wav2Vec2ForCTC"])
def test_wav2vec2(kind, tmp_path):
    theirs = torch_wav2vec2(kind)
    params, report = brought_in(
        wav2vec2.NAMINGS, WAV2VEC2_CONFIG, Wav2Vec2(WAV2VEC2_CONFIG), read_state(theirs, tmp_path, "pth")
    )
    assert report.ignored == (("lm_head.bias", "lm_head.weight") if kind == "Wav2Vec2ForCTC" else ())
    sound = np.random.default_rng(0).standard_normal((2, 5003)).astype(np.float32)
    encoder = theirs if kind == "Wav2Vec2Model" else theirs.wav2vec2
    with torch.no_grad():
        expected = encoder(torch.tensor(sound)).last_hidden_state.numpy()
    out = jax.jit(Wav2Vec2(WAV2VEC2_CONFIG).apply)(params, sound)
    np.testing.assert_allclose(out, expected, atol=2e-5, rtol=1e-5)


def test_masked_features_are_those_of_specaugment():
    theirs = torch_wav2vec2("Wav2Vec2Model")
    source = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    params, _ = brought_in(wav2vec2.NAMINGS, WAV2VEC2_CONFIG, Wav2Vec2(WAV2VEC2_CONFIG), source)
    rng = np.random.default_rng(0)
    sound = rng.standard_normal((2, 5003)).astype(np.float32)
    masked = rng.random((2, WAV2VEC2_CONFIG.output_length(5003))) < 0.3
    with torch.no_grad():
        expected = theirs(torch.tensor(sound), mask_time_indices=torch.tensor(masked)).last_hidden_state.numpy()
    out = jax.jit(Wav2Vec2(WAV2VEC2_CONFIG).apply)(params, sound, masked)
    np.testing.assert_allclose(out, expected, atol=2e-5, rtol=1e-5)
