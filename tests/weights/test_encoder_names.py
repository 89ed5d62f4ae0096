"""The encoders' tables of names: what goes in comes out, and what real files lack or hold besides is allowed for."""

import jax
import numpy as np
import pytest

from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.clip_vision import CLIPVision
from stableavatar_jax.models.config import CLIPVisionConfig, UMT5Config, Wav2Vec2Config
from stableavatar_jax.models.umt5 import UMT5
from stableavatar_jax.models.wav2vec2 import Wav2Vec2
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names import clip_vision, umt5, wav2vec2
from tests.params import abstract_params, random_params

T5 = UMT5(UMT5Config(vocab=9, dim=4, attention_dim=6, ffn_dim=5, heads=2, layers=2, buckets=4))
SHARED_T5 = UMT5(UMT5Config(vocab=9, dim=4, attention_dim=6, ffn_dim=5, heads=2, layers=2, buckets=4, shared_bias=True))
CLIP = CLIPVision(CLIPVisionConfig(image_size=4, patch=2, dim=4, mlp_ratio=2, heads=2, layers=3, embedding_dim=3))
SOUND = Wav2Vec2(
    Wav2Vec2Config(dim=8, ffn_dim=6, heads=2, layers=2, conv_dims=(5,) * 7, position_kernel=4, position_groups=2)
)
PARTS = [
    pytest.param(model, naming, id=f"{type(model).__name__}-{naming.name}")
    for model, namings in (
        (T5, umt5.NAMINGS),
        (SHARED_T5, umt5.NAMINGS),
        (CLIP, clip_vision.NAMINGS),
        (SOUND, wav2vec2.NAMINGS),
    )
    for naming in namings
]


def export(model, naming):
    params = jax.tree.map(np.asarray, random_params(model))
    return params, dict(rules.export(naming, model.config, params))


def load(model, naming, source):
    return rules.load(naming, model.config, source, abstract_params(model))


@pytest.mark.parametrize(("model", "naming"), PARTS)
def test_load_undoes_export(model, naming):
    params, source = export(model, naming)
    again, report = load(model, naming, source)
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert report == rules.Report((), ())


@pytest.mark.parametrize(("model", "naming"), PARTS)
def test_a_file_is_told_by_its_names(model, naming):
    namings = {UMT5: umt5, CLIPVision: clip_vision, Wav2Vec2: wav2vec2}[type(model)].NAMINGS
    assert rules.choose(namings, model.config, export(model, naming)[1]) is naming


@pytest.mark.parametrize("held", ["shared.weight", "encoder.embed_tokens.weight", "both"])
def test_the_tied_embedding_has_two_names(held):
    params, source = export(T5, umt5.TRANSFORMERS)
    first, second = "shared.weight", "encoder.embed_tokens.weight"
    source[second] = source[first]
    if held != "both":
        del source[first if held == second else second]
    again, report = load(T5, umt5.TRANSFORMERS, source)
    np.testing.assert_array_equal(again["token_embedding"], params["token_embedding"])
    assert report == rules.Report((), ())


def test_tied_tensors_that_differ_are_an_error():
    source = export(T5, umt5.TRANSFORMERS)[1]
    source["encoder.embed_tokens.weight"] = source["shared.weight"] + 1
    with pytest.raises(Mistake, match="one parameter, but differ"):
        load(T5, umt5.TRANSFORMERS, source)
    del source["shared.weight"], source["encoder.embed_tokens.weight"]
    with pytest.raises(Mistake, match="missing tensor shared.weight"):
        load(T5, umt5.TRANSFORMERS, source)


def test_text_towers_and_heads_are_passed_over():
    for model, naming, more in (
        (CLIP, clip_vision.ORIGINAL, ("textual.norm.bias", "log_scale")),
        (CLIP, clip_vision.TRANSFORMERS, ("text_model.x", "logit_scale", "vision_model.embeddings.position_ids")),
        (SOUND, wav2vec2.NAMINGS[0], ("lm_head.weight", "lm_head.bias")),
        (T5, umt5.TRANSFORMERS, ("decoder.block.0.layer.0.layer_norm.weight", "lm_head.weight")),
    ):
        source = export(model, naming)[1]
        _, report = load(model, naming, source | {name: np.zeros(1) for name in more})
        assert report.ignored == tuple(sorted(more))


def test_what_published_files_lack_is_zero():
    source = export(SOUND, wav2vec2.NAMINGS[0])[1]
    del source["wav2vec2.masked_spec_embed"]
    params, report = load(SOUND, wav2vec2.NAMINGS[0], source)
    assert report.absent == ("wav2vec2.masked_spec_embed",)
    assert not params["masked_feature"].any()

    source = export(CLIP, clip_vision.BARE)[1]
    del source["visual_projection.weight"]
    params, report = load(CLIP, clip_vision.BARE, source)
    assert report.absent == ("visual_projection.weight",)
    assert not params["head"]["kernel"].any()
