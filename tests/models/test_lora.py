"""Laws of LoRA, and its files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.errors import Mistake
from stableavatar_jax.models import lora as loras
from stableavatar_jax.models.config import LoRAConfig
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.weights.lora import import_lora
from stableavatar_jax.weights.lora_writer import export_lora
from tests.params import random_params
from tests.training import tiny

MODEL = DiT(tiny.MODEL.dit)


@pytest.fixture(scope="module")
def params():
    return random_params(MODEL)


@pytest.fixture(scope="module")
def lora(params):
    """A LoRA that does something: `up` drawn too."""
    fresh = loras.init(jax.random.key(0), params, LoRAConfig(rank=3, alpha=1.5))
    rng = np.random.default_rng(0)
    grow = lambda path, x: jnp.asarray(0.1 * rng.standard_normal(x.shape), x.dtype) if path[-1].key == "up" else x  # noqa: E731
    return jax.tree_util.tree_map_with_path(grow, fresh)


@pytest.fixture(scope="module")
def velocity():
    batch = jax.tree.map(jnp.asarray, tiny.batch(0, rows=1))
    z, reference = batch["latents_mean"], jnp.zeros((1, *tiny.SHAPE, 20))
    inputs = z, jnp.asarray([500.0]), reference, batch["text"], batch["text_mask"], batch["image"], batch["audio"]
    return jax.jit(lambda variables: MODEL.apply(variables, *inputs))


def test_fresh_one_changes_nothing(params, velocity):
    fresh = loras.init(jax.random.key(0), params, LoRAConfig(rank=3))
    np.testing.assert_array_equal(velocity({"params": params}), velocity({"params": params, "lora": fresh}))
    jax.tree.map(np.testing.assert_array_equal, params, loras.merge(params, fresh))


def test_merged_equals_apart(params, lora, velocity):
    apart, merged = velocity({"params": params, "lora": lora}), velocity({"params": loras.merge(params, lora)})
    assert np.abs(apart - velocity({"params": params})).max() > 0.01
    np.testing.assert_allclose(apart, merged, atol=2e-4, rtol=2e-4)


def test_scale_is_linear(params, lora):
    """Twice at half strength is once at full strength."""
    half = loras.merge(loras.merge(params, lora, 0.5), lora, 0.5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), half, loras.merge(params, lora))


def test_split_undoes_merge(params, lora):
    back = loras.split(loras.merge(params, lora, 0.7), lora, 0.7)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), params, back)


def test_audio_parts_get_no_factors(params):
    paths = set(loras.targets(params))
    assert "blocks/self_attention/q" in paths and "head" in paths
    assert not [path for path in paths if "audio" in path or "patch" in path]


def test_merge_refuses_another_model(params, lora):
    with pytest.raises(ValueError, match="no such map"):
        loras.merge({"blocks": {}}, lora)


def test_import_undoes_export(lora):
    jax.tree.map(np.testing.assert_array_equal, lora, import_lora(dict(export_lora(lora))))


def test_thinner_and_missing_layers_are_filled_with_zeros(lora):
    source = dict(export_lora(lora))
    name = "lora_transformer__blocks_0_ffn_0"
    source[f"{name}.lora_down.weight"] = source[f"{name}.lora_down.weight"][:1]
    source[f"{name}.lora_up.weight"] = source[f"{name}.lora_up.weight"][:, :1]
    for kind in ("lora_down.weight", "lora_up.weight", "alpha"):
        del source[f"lora_transformer__blocks_1_ffn_2.{kind}"]
    ffn = import_lora(source)["blocks"]["ffn"]
    assert ffn["up"]["down"].shape[-1] == 3 and not ffn["up"]["down"][0, :, 1:].any()
    assert not ffn["down"]["up"][1].any() and ffn["down"]["up"][0].any()


@pytest.mark.parametrize(("name", "message"), [
    ("lora_transformer__blocks_0_cross_attn_k_vocal.alpha", "is of no module of the model"),
    ("lora_transformer__head_head.lora_down.weight", "lacks a factor"),
])
def test_other_tensors_are_refused(name, message):
    with pytest.raises(Mistake, match=message):
        import_lora({name: np.zeros((2, 2))})
