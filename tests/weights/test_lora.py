"""LoRA files of every family: each gives the weights of a plain sum, and comes back from each family's names."""

import json

import ml_dtypes
import numpy as np
import pytest

from stableavatar_jax.configs.tiny import model
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models import lora as loras
from stableavatar_jax.models.avatar import abstract_params, part
from stableavatar_jax.trees import flatten, unflatten
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.formats.safetensors import write_safetensors
from stableavatar_jax.weights.formats.tensors import lazy
from stableavatar_jax.weights.lora import load_lora, read_lora
from stableavatar_jax.weights.lora_writer import save_lora
from stableavatar_jax.weights.names.dit import STABLEAVATAR, diffusers_name

D, FFN = model.dit.dim, model.dit.ffn_dim
# Modules of one block and the whole model: their sizes in and out. Block 0 and the rest are left out on purpose.
MODULES = {"blocks.1.self_attn.q": (D, D), "blocks.1.cross_attn.k_img": (D, D), "blocks.1.ffn.0": (D, FFN),
           "text_embedding.0": (model.dit.text_dim, D), "time_projection.1": (D, 6 * D)}  # fmt: skip
RANKS = {module: rank for rank, module in enumerate(MODULES, 2)}
DOTTED = ("", "diffusion_model.", "base_model.model.", "model.diffusion_model.", "pipe.dit.", "transformer.")
PLAIN = [(p, ".lora_down.weight", ".lora_up.weight") for p in DOTTED] + [
    ("diffusion_model.", ".lora_A.weight", ".lora_B.weight"),
    ("base_model.model.", ".lora_A.default.weight", ".lora_B.default.weight"),
    ("", ".lora.down.weight", ".lora.up.weight"),
    ("", "_lora.down.weight", "_lora.up.weight"),
    ("", ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
]
UNDERSCORED = ("lora_unet_", "lora_unet__", "lora_transformer__", "lycoris_")


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    leaves = flatten(abstract_params(part(model, "dit")))
    return unflatten({path: rng.standard_normal(leaf.shape, np.float32) for path, leaf in leaves.items()})


def pair(module):
    """The factors of a module."""
    rng = np.random.default_rng(len(module))
    inside, outside = MODULES[module]
    rank = RANKS[module]
    return rng.standard_normal((rank, inside), np.float32), rng.standard_normal((outside, rank), np.float32)


def tensors_of(params):
    return dict(rules.export(STABLEAVATAR, model.dit, params))


def expected(params, alphas, strength=1.0, **more):
    """The sum in plain NumPy, by PyTorch's names."""
    tensors = tensors_of(params)
    for module in MODULES:
        down, up = pair(module)
        scale = alphas.get(module, len(down)) / len(down)
        tensors[f"{module}.weight"] = tensors[f"{module}.weight"] + np.float32(strength * scale) * (up @ down)
    for name, value in more.items():
        tensors[name] = tensors[name] + np.float32(strength) * value.reshape(tensors[name].shape)
    return tensors


def check(path, params, want, strength=1.0):
    merged = loras.merge(params, load_lora(path), strength)
    have = tensors_of({key: value for key, value in merged.items()})
    for name, value in want.items():
        np.testing.assert_allclose(have[name], value, atol=2e-5, rtol=1e-5, err_msg=name)


def write(path, tensors, metadata=None):
    write_safetensors(path, {name: lazy(value) for name, value in tensors.items()}, metadata)
    return path


def named(spell, down, up, alphas, dtype=np.float32):
    tensors = {}
    for module in MODULES:
        tensors[spell(module) + down], tensors[spell(module) + up] = pair(module)
        if module in alphas:
            tensors[f"{spell(module)}.alpha"] = np.asarray(alphas[module], dtype)
    return tensors


ALPHAS = {module: float(3 * rank) for module, rank in RANKS.items() if rank != 3}  # one has none: its factor is 1


@pytest.mark.parametrize(("prefix", "down", "up"), PLAIN, ids=lambda part: part.strip("._") or "bare")
def test_dotted_names(tmp_path, params, prefix, down, up):
    file = write(tmp_path / "lora.safetensors", named(lambda module: prefix + module, down, up, ALPHAS))
    check(file, params, expected(params, ALPHAS))


def test_blocks_at_the_end_may_be_left_out(tmp_path, params):
    """A file for block 0 alone."""
    down, up = pair("blocks.1.ffn.0")
    first = "diffusion_model.blocks.0."
    spelt = {f"{first}ffn.0.lora_down.weight": down, f"{first}ffn.0.lora_up.weight": up,
             f"{first}diff_m": np.ones((1, 6, D), np.float32)}  # fmt: skip
    want = tensors_of(params)
    want["blocks.0.ffn.0.weight"] = want["blocks.0.ffn.0.weight"] + up @ down
    want["blocks.0.modulation"] = want["blocks.0.modulation"] + 1
    check(write(tmp_path / "lora.safetensors", spelt), params, want)


@pytest.mark.parametrize("prefix", UNDERSCORED)
def test_underscored_names_of_either_spelling(tmp_path, params, prefix):
    for spell in (lambda name: name, diffusers_name):
        spelt = named(lambda m: prefix + spell(m).replace(".", "_"), ".lora_down.weight", ".lora_up.weight", ALPHAS)  # noqa: B023
        check(write(tmp_path / "lora.safetensors", spelt), params, expected(params, ALPHAS))


@pytest.mark.parametrize("form", [(np.int64, ()), (np.float32, (1,)), (ml_dtypes.bfloat16, ()), (np.float16, (1,))])
def test_alpha_of_any_form_and_strength(tmp_path, params, form):
    dtype, shape = form
    alphas = {module: 4.0 for module in MODULES}
    spelt = named(lambda m: f"diffusion_model.{m}", ".lora_down.weight", ".lora_up.weight", alphas, dtype)
    spelt = {name: x.reshape(shape) if name.endswith(".alpha") else x for name, x in spelt.items()}
    check(write(tmp_path / "lora.safetensors", spelt), params, expected(params, alphas, 0.7), 0.7)


def test_diffusers_takes_alphas_from_the_metadata(tmp_path, params):
    spelt = named(lambda m: f"transformer.{diffusers_name(m)}", ".lora_A.weight", ".lora_B.weight", {})
    bias = np.random.default_rng(1).standard_normal(D).astype(np.float32)
    spelt["transformer.blocks.1.attn1.to_q.lora_B.bias"] = bias
    noted = {"transformer.r": 4, "transformer.lora_alpha": 8, "transformer.alpha_pattern": {"blocks.1.attn1.to_q": 6}}
    file = write(tmp_path / "lora.safetensors", spelt, {"lora_adapter_metadata": json.dumps(noted)})
    alphas = dict.fromkeys(MODULES, 8.0) | {"blocks.1.self_attn.q": 6.0}
    factor = 6 / RANKS["blocks.1.self_attn.q"]
    check(file, params, expected(params, alphas, **{"blocks.1.self_attn.q.bias": factor * bias}))
    assert read_lora(file).family == "diffusers"


def test_whole_differences(tmp_path, params):
    rng = np.random.default_rng(2)
    own = tensors_of(params)
    names = {"blocks.1.norm3.weight": "blocks.1.norm3.diff", "blocks.1.norm3.bias": "blocks.1.norm3.diff_b",
             "blocks.1.modulation": "blocks.1.diff_m", "head.modulation": "head.diff_m",
             "head.head.weight": "head.head.diff", "patch_embedding.weight": "patch_embedding.diff",
             "img_emb.proj.1.bias": "img_emb.proj.1.diff_b",
             "blocks.1.self_attn.norm_q.weight": "blocks.1.self_attn.norm_q.diff"}  # fmt: skip
    more = {name: rng.standard_normal(own[name].shape).astype(np.float32) for name in names}
    spelt = named(lambda m: f"diffusion_model.{m}", ".lora_down.weight", ".lora_up.weight", ALPHAS)
    spelt |= {f"diffusion_model.{short}": more[name] for name, short in names.items()}
    file = write(tmp_path / "lora.safetensors", spelt)
    check(file, params, expected(params, ALPHAS, 0.5, **more), 0.5)

    save_lora(tmp_path / "again.safetensors", load_lora(file), "comfyui")
    check(tmp_path / "again.safetensors", params, expected(params, ALPHAS, 0.5, **more), 0.5)
    with pytest.raises(Mistake, match="kohya files have no name for a whole difference"):
        save_lora(tmp_path / "no.safetensors", load_lora(file), "kohya")


@pytest.mark.parametrize("family", ["comfyui", "peft", "diffusers", "kohya", "release"])
def test_every_family_is_written_and_read_again(tmp_path, params, family):
    spelt = named(lambda m: f"diffusion_model.{m}", ".lora_down.weight", ".lora_up.weight", ALPHAS)
    first = write(tmp_path / "first.safetensors", spelt)
    save_lora(tmp_path / "again.safetensors", load_lora(first), family)
    again = read_lora(tmp_path / "again.safetensors")
    assert again.ranks == RANKS
    have, want = flatten(again.tree), flatten(load_lora(first))
    assert have.keys() == want.keys()
    for path, value in want.items():
        np.testing.assert_allclose(have[path], value, rtol=1e-6, err_msg=path)


def test_patches_of_text_to_video_are_skipped_by_name(tmp_path, capsys):
    spelt = named(lambda m: f"diffusion_model.{m}", ".lora_down.weight", ".lora_up.weight", {})
    spelt["diffusion_model.patch_embedding.diff"] = np.ones((D, 16, 1, 2, 2), np.float32)
    spelt["diffusion_model.patch_embedding.diff_b"] = np.ones(D, np.float32)
    tree = load_lora(write(tmp_path / "lora.safetensors", spelt))
    assert "patch_embedding" not in tree
    assert "skipped patch_embedding: it has 16 input channels, this model has 36" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "message"), [
    ("diffusion_model.blocks.0.self_attn.q.dora_scale", "dora_scale is of DoRA"),
    ("lora_unet_blocks_0_self_attn_q.lokr_w1", "is of LoKr"),
    ("lora_unet_blocks_0_self_attn_q.hada_w1_a", "is of LoHa"),
    ("lora_unet_blocks_0_self_attn_q.lora_mid.weight", "three factors"),
    ("diffusion_model.blocks.0.cross_attn.k_vocal.lora_down.weight", "is of no module"),
    ("text_encoder.layers.0.q.lora_down.weight", "is of no module"),
])  # fmt: skip
def test_what_cannot_be_applied_is_refused_by_name(tmp_path, name, message):
    with pytest.raises(Mistake, match=message) as error:
        load_lora(write(tmp_path / "lora.safetensors", {name: np.ones((2, 2), np.float32)}))
    assert name in str(error.value)
