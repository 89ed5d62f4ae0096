"""Laws of the rules: reading and writing undo each other, and nothing is read where anything does not match."""

from dataclasses import dataclass

import numpy as np
import pytest
from jax import ShapeDtypeStruct
from numpy.testing import assert_array_equal

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.formats.tensors import LazyTensor
from stableavatar_jax.weights.rules import flatten
from stableavatar_jax.weights.table import CONV1D, CONV2D, CONV3D, FLAT, KEEP, LINEAR, Naming, Rule


@dataclass(frozen=True)
class Sizes:
    """A toy with stacked layers, a fused projection and every change of layout."""

    layers: int = 3
    width: int = 4


def table(config):
    listed = [
        Rule(source="conv1.weight", target="conv1/kernel", op=CONV1D),
        Rule(source="conv2.weight", target="conv2/kernel", op=CONV2D),
        Rule(source="conv3.weight", target="conv3/kernel", op=CONV3D),
        Rule(source="gamma", target="norm/scale", op=FLAT, source_shape=(config.width, 1, 1)),
        Rule(source="bias", target="norm/bias", op=KEEP),
    ]
    for i in range(config.layers):
        for k, name in enumerate("qkv"):
            listed.append(
                Rule(source=f"layers.{i}.{name}.weight", target="layers/qkv/kernel", op=LINEAR, stack=i, part=(k, 3))
            )
    return listed


NAMING = Naming(name="toy", rules=table, ignored=("position_ids",), optional=("bias",))
CONFIG = Sizes()


def abstract(config=CONFIG):
    leaf = lambda *shape: ShapeDtypeStruct(shape, np.float32)  # noqa: E731
    n, d = config.layers, config.width
    return {
        "conv1": {"kernel": leaf(3, 2, d)},
        "conv2": {"kernel": leaf(3, 5, 2, d)},
        "conv3": {"kernel": leaf(3, 5, 7, 2, d)},
        "norm": {"scale": leaf(d), "bias": leaf(d)},
        "layers": {"qkv": {"kernel": leaf(n, d, 3 * d)}},
    }


def tensors(config=CONFIG):
    rng, n, d = np.random.default_rng(0), config.layers, config.width
    shapes = {"conv1.weight": (d, 2, 3), "conv2.weight": (d, 2, 3, 5), "conv3.weight": (d, 2, 3, 5, 7)}
    shapes |= {"gamma": (d, 1, 1), "bias": (d,)}
    shapes |= {f"layers.{i}.{name}.weight": (d, d) for i in range(n) for name in "qkv"}
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def load(source, config=CONFIG, **options):
    return rules.load(NAMING, config, source, abstract(config), **options)


class Unread:
    """A tensor that must not be read."""

    def __init__(self, shape):
        self.shape = shape

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("a tensor was read")


def test_export_undoes_load():
    source = tensors()
    params, report = load(source)
    exported = dict(rules.export(NAMING, CONFIG, params))
    assert report.ignored == report.absent == ()
    assert exported.keys() == source.keys()
    for name, array in source.items():
        assert_array_equal(exported[name], array)


def test_load_undoes_export():
    params, _ = load(tensors())
    again, _ = load(dict(rules.export(NAMING, CONFIG, params)))
    for path, array in flatten(params).items():
        assert_array_equal(flatten(again)[path], array)


def test_where_a_fused_stacked_weight_goes():
    source = tensors()
    params, _ = load(source)
    d = CONFIG.width
    assert_array_equal(params["layers"]["qkv"]["kernel"][1][:, d : 2 * d], source["layers.1.k.weight"].T)


def test_a_stacked_parameter_is_made_a_layer_at_a_time():
    reads = []
    source = {}
    for name, array in tensors().items():
        source[name] = LazyTensor(array.shape, array.dtype, lambda name=name, array=array: reads.append(name) or array)
    flat, _ = rules.loaded(NAMING, CONFIG, source, abstract(), dtype=np.float16)
    assert not reads and all(tensor.dtype == np.float16 for tensor in flat.values())
    pieces = flat["layers/qkv/kernel"].pieces()
    first = next(pieces)
    assert reads == [f"layers.0.{name}.weight" for name in "qkv"]
    whole = np.stack([first, *pieces])
    assert_array_equal(whole, load(tensors())[0]["layers"]["qkv"]["kernel"].astype(np.float16))


def test_ignored_and_optional_tensors_are_reported():
    source = tensors() | {"position_ids": np.arange(3)}
    del source["bias"]
    params, report = load(source)
    assert (report.ignored, report.absent) == (("position_ids",), ("bias",))
    assert_array_equal(params["norm"]["bias"], np.zeros(CONFIG.width))


def test_every_mismatch_is_listed_and_nothing_is_read():
    source = {name: Unread(array.shape) for name, array in tensors().items()}
    source["extra.weight"] = Unread((1,))
    source["conv2.weight"] = Unread((9, 9, 9, 9))
    source["conv3.weight"] = Unread((9,))
    del source["layers.2.k.weight"]
    with pytest.raises(Mistake) as error:
        load(source)
    for line in (
        "4 mismatches:",
        "unused tensor extra.weight",
        "missing tensor layers.2.k.weight",
        "tensor conv2.weight has shape (9, 9, 9, 9), parameter conv2/kernel needs (3, 5, 2, 4)",
        "tensor conv3.weight has shape (9,)",
    ):
        assert line in str(error.value)


def test_a_long_list_stays_on_one_screen():
    source = {f"x{i}": Unread(()) for i in range(200)}
    with pytest.raises(Mistake) as error:
        load(source)
    assert len(str(error.value).splitlines()) < 20 and "more" in str(error.value)


def test_a_parameter_without_rule_is_a_mismatch():
    with pytest.raises(Mistake, match="no rule fills parameter head/kernel"):
        rules.load(NAMING, CONFIG, tensors(), abstract() | {"head": {"kernel": ShapeDtypeStruct((1,), np.float32)}})
    with pytest.raises(Mistake, match="no parameter conv1/kernel"):
        rules.load(NAMING, CONFIG, tensors(), {k: v for k, v in abstract().items() if k != "conv1"})


def test_another_size_is_a_mismatch():
    with pytest.raises(Mistake, match="layers.2.q.weight"):
        load(tensors(Sizes(layers=2)))
    with pytest.raises(Mistake, match="unused tensor layers.3.v.weight"):
        load(tensors(Sizes(layers=4)))


def test_the_naming_that_knows_most_names_is_chosen():
    other = Naming(name="other", rules=lambda config: [Rule(source="bias", target="b")])
    assert rules.choose((other, NAMING), CONFIG, tensors()).name == "toy"
    assert rules.choose((other, NAMING), CONFIG, {"bias"}).name in ("toy", "other")
    with pytest.raises(Mistake, match="none of its 2 tensors"):
        rules.choose((other, NAMING), CONFIG, {"a", "b"})
