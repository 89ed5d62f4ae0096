"""The encoders' parameters are those of the published files, name for name and shape for shape."""

import numpy as np

from stableavatar_jax.models.clip_vision import CLIPVision
from stableavatar_jax.models.config import CLIPVisionConfig, UMT5Config, Wav2Vec2Config
from stableavatar_jax.models.umt5 import UMT5
from stableavatar_jax.models.wav2vec2 import Wav2Vec2
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names import clip_vision, umt5, wav2vec2
from tests.golden import cases, sizes
from tests.params import abstract_params

GROUPS = {"manifests"}


def blank(shape) -> np.ndarray:
    """An array of any size in the memory of one number."""
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), shape, (0,) * len(shape))


def exported_shapes(naming, config, model) -> dict:
    params = {path: blank(leaf.shape) for path, leaf in rules.flatten(abstract_params(model)).items()}
    return {name: value.shape for name, value in rules.export(naming, config, rules.unflatten(params))}


def stated_shapes(manifest: dict) -> dict:
    return {name: tuple(entry["shape"]) for name, entry in manifest.items()}


def imported(namings, config, model, shapes):
    """The naming chosen for a file of these shapes, and the report; raises where they do not match."""
    naming = rules.choose(namings, config, shapes)
    return naming, rules.match(naming, config, {n: blank(s) for n, s in shapes.items()}, abstract_params(model))[1]


def test_umt5(case):
    config, shapes = sizes.umt5(case.info["config"]), stated_shapes(case.info["keys"])
    assert_preset(config, UMT5Config())
    naming, report = imported(umt5.NAMINGS, config, UMT5(config), shapes)
    assert naming is umt5.ORIGINAL
    assert report == rules.Report((), ())
    assert exported_shapes(naming, config, UMT5(config)) == shapes


def test_clip(case):
    config, shapes = sizes.clip(case.info["config"]), stated_shapes(case.info["keys"])
    assert_preset(config, CLIPVisionConfig())
    text = stated_shapes(case.info["textual_keys_ignored_by_the_project"])
    naming, report = imported(clip_vision.NAMINGS, config, CLIPVision(config), shapes | text)
    assert naming is clip_vision.ORIGINAL
    assert report == rules.Report(tuple(sorted(text)), ())
    assert exported_shapes(naming, config, CLIPVision(config)) == shapes


def test_wav2vec2(case):
    config, shapes = sizes.wav2vec2(case.info["config"]), stated_shapes(case.info["keys"])
    assert_preset(config, Wav2Vec2Config())
    head = tuple(sorted(name for name in shapes if name.startswith("lm_head.")))
    renamed = {pair["src"]: pair["dst"] for pair in case.info["pairs"]}
    old = {renamed.get(name, name): shape for name, shape in shapes.items()}
    for whole in (shapes, old):
        naming, report = imported(wav2vec2.NAMINGS, config, Wav2Vec2(config), whole)
        assert report == rules.Report(head, ())
        encoder = {name: shape for name, shape in whole.items() if name not in head}
        assert exported_shapes(naming, config, Wav2Vec2(config)) == encoder

        bare = {name.removeprefix("wav2vec2."): shape for name, shape in encoder.items()}
        naming, _ = imported(wav2vec2.NAMINGS, config, Wav2Vec2(config), bare)
        assert exported_shapes(naming, config, Wav2Vec2(config)) == bare

        published = {name: shape for name, shape in whole.items() if not name.endswith("masked_spec_embed")}
        _, report = imported(wav2vec2.NAMINGS, config, Wav2Vec2(config), published)
        assert report == rules.Report(head, ("wav2vec2.masked_spec_embed",))


def test_umt5_to_transformers(case):
    layers = sizes.count((pair["src"] for pair in case.info["pairs"]), r"blocks\.(\d+)\.")
    small = UMT5Config(layers=layers, vocab=7, dim=4, attention_dim=6, ffn_dim=5, heads=2, buckets=4)
    assert_pairs(case.info["pairs"], umt5.ORIGINAL, umt5.TRANSFORMERS, small, UMT5)


def test_clip_to_transformers(case):
    layers = sizes.count((pair["src"] for pair in case.info["pairs"]), r"visual\.transformer\.(\d+)\.")
    small = CLIPVisionConfig(layers=layers, image_size=4, patch=2, dim=4, heads=2, embedding_dim=3)
    width = case.info["hf_config"]["hidden_size"]
    assert_pairs(case.info["pairs"], clip_vision.ORIGINAL, clip_vision.TRANSFORMERS, small, CLIPVision, width)


def assert_preset(config, preset):
    """Where the manifest has the width and depth of the model we build by default, it has all of its sizes."""
    if (config.dim, config.layers) == (preset.dim, preset.layers):
        assert config == preset


def assert_pairs(pairs, one, other, small, model, width=None):
    """A small file under one naming, brought to the other by our tables, is what the stated pairs make of it.

    `width` is the real width, of which the pairs that cut a tensor state rows.
    """
    assert {pair["src"] for pair in pairs} == {rule.source for rule in one.rules(small)}
    first = dict((again, name) for name, again in other.tied)
    assert {first.get(pair["dst"], pair["dst"]) for pair in pairs} == {rule.source for rule in other.rules(small)}

    source = cases.weights(exported_shapes(one, small, model(small)), seed=0)
    params, _ = rules.load(one, small, source, abstract_params(model(small)))
    made = dict(rules.export(other, small, params))
    for pair in pairs:
        actual = made[first.get(pair["dst"], pair["dst"])]
        expected = changed(source[pair["src"]], pair["op"], small.dim, width)
        np.testing.assert_array_equal(actual, expected, err_msg=pair["dst"])


def changed(tensor: np.ndarray, op: str, small: int, width: int | None) -> np.ndarray:
    if op.startswith("rows["):
        start, end = (int(n) * small // width for n in op[5:-1].split(":"))
        return tensor[start:end]
    return {
        "identity": lambda x: x,
        "transpose": lambda x: x.T,
        "squeeze0": lambda x: x[0],
        "reshape[-1]": lambda x: x.reshape(-1),
    }[op](tensor)


test_umt5.cases = lambda case: case.path.match("umt5_*.json") and "keys" in case.info
test_clip.cases = lambda case: case.path.match("clip_*.json") and "keys" in case.info
test_wav2vec2.cases = "wav2vec2_*.json"
test_umt5_to_transformers.cases = "umt5_*_to_transformers.json"
test_clip_to_transformers.cases = "clip_*_to_transformers.json"
