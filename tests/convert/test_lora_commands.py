"""Merging, comparing and renaming from the command line."""

import numpy as np
import pytest

from stableavatar_jax.config import write_config
from stableavatar_jax.configs.tiny import model as tiny
from stableavatar_jax.convert import parts
from stableavatar_jax.convert.commands import main
from stableavatar_jax.models import lora as loras
from stableavatar_jax.trees import flatten, unflatten
from stableavatar_jax.weights.directory import open_part, write_part
from stableavatar_jax.weights.formats.safetensors import write_safetensors
from stableavatar_jax.weights.formats.tensors import lazy
from stableavatar_jax.weights.lora import load_lora

D = tiny.dit.dim


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model directory with two parts, and a LoRA file of ComfyUI's names with whole differences."""
    folder = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(0)
    for name in ("dit", "wav2vec2"):
        leaves = flatten(parts.part(name, tiny).abstract)
        write_part(folder / "m" / name, {p: lazy(rng.standard_normal(x.shape, np.float32)) for p, x in leaves.items()})
    write_config(folder / "m", tiny)
    first = "diffusion_model.blocks.0."
    write_safetensors(folder / "lora.safetensors", {
        f"{first}self_attn.q.lora_down.weight": lazy(rng.standard_normal((3, D), np.float32)),
        f"{first}self_attn.q.lora_up.weight": lazy(rng.standard_normal((D, 3), np.float32)),
        f"{first}self_attn.q.alpha": lazy(np.int64(6)),
        "diffusion_model.head.head.lora_down.weight": lazy(rng.standard_normal((2, D), np.float32)),
        "diffusion_model.head.head.lora_up.weight": lazy(rng.standard_normal((64, 2), np.float32)),
        f"{first}norm3.diff": lazy(rng.standard_normal(D, np.float32)),
        f"{first}diff_m": lazy(rng.standard_normal((1, 6, D), np.float32)),
    })  # fmt: skip
    return folder


def run(*words):
    return main([str(word) for word in words])


def test_merge_adds_what_sampling_adds(folder, tmp_path):
    file = folder / "lora.safetensors"
    assert run("merge", "--lora", f"{file}:0.5", file, "--source", folder / "m", "--output", tmp_path / "out") == 0
    params = unflatten({path: x.read() for path, x in open_part(folder / "m" / "dit").items()})
    want = flatten(loras.merge(loras.merge(params, load_lora(file), 0.5), load_lora(file)))
    merged = open_part(tmp_path / "out" / "dit")
    changed = set()
    for path, tensor in open_part(folder / "m" / "dit").items():
        np.testing.assert_allclose(merged[path].read(), want[path], atol=1e-5, err_msg=path)
        if not np.array_equal(merged[path].read(), tensor.read()):
            changed.add(path)
    assert changed == {"blocks/self_attention/q/kernel", "head/kernel", "blocks/norm_cross/scale", "blocks/modulation"}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "conversion.json", "dit.safetensors", "wav2vec2.safetensors"}


def test_merge_refuses_a_lora_of_another_model(folder, tmp_path, capsys):
    wrong = {f"blocks.0.self_attn.q.lora_{k}.weight": lazy(np.ones((2, 2), np.float32)) for k in ("down", "up")}
    write_safetensors(tmp_path / "wrong.safetensors", wrong)
    where = ("--source", folder / "m", "--output", tmp_path / "out")
    assert run("merge", "--lora", tmp_path / "wrong.safetensors", *where) == 1
    assert "it was trained on another model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_compare_lists_the_worst_first(folder, tmp_path, capsys):
    one = folder / "m"
    assert run("compare", one, one) == 0
    file = tmp_path / "dit.pt"
    run("export", "--part", "dit", "--source", one, "--output", file)
    capsys.readouterr()
    assert run("compare", file, one, "--config", "tiny") == 1  # the file has one part of two
    said = capsys.readouterr().out
    assert "wav2vec2/" in said and "alone" in said and "dit/" not in said

    tensors = dict(open_part(one / "dit"))
    for path, by in (("head/bias", 0.25), ("blocks/ffn/up/kernel", 2.0)):
        value = np.array(tensors[path].read())
        value[(0,) * value.ndim] += by
        tensors[path] = lazy(value)
    write_part(tmp_path / "changed" / "dit", tensors)
    write_config(tmp_path / "changed", tiny)
    run("export", "--part", "dit", "--source", tmp_path / "changed", "--output", tmp_path / "changed.safetensors")
    capsys.readouterr()
    assert run("compare", file, tmp_path / "changed.safetensors", "--config", "tiny") == 1
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("dit/blocks/ffn/up/kernel: 1 of") and "by 2 at most" in first
    assert second.startswith("dit/head/bias: 1 of 64 values differ, by 0.25 at most")
    count = len(tensors)
    assert last == f"{count - 2} of {count} tensors are equal bit for bit"
    two = (file, tmp_path / "changed.safetensors", "--config", "tiny", "--tolerance")
    assert run("compare", *two, "1.9") == 1 and run("compare", *two, "2.1") == 0
    assert run("compare", *two, "-1") == 1 and "0 or more" in capsys.readouterr().err


def test_compare_tells_dtypes_apart(folder, tmp_path, capsys):
    for dtype in ("float32", "bfloat16"):
        output = tmp_path / f"{dtype}.pt"
        run("export", "--part", "wav2vec2", "--source", folder / "m", "--output", output, "--dtype", dtype)
    files = (tmp_path / "float32.pt", tmp_path / "bfloat16.pt", "--config", "tiny")
    capsys.readouterr()
    assert run("compare", *files) == 1
    assert "float32 and bfloat16" in capsys.readouterr().out
    assert run("compare", *files, "--tolerance", "0.1") == 0


def test_a_lora_is_named_anew_and_inspected(folder, tmp_path, capsys):
    plain = {
        f"lora_unet__blocks_{i}_ffn_0.{kind}": lazy(np.ones(shape, np.float32))
        for i in range(2) for kind, shape in (("lora_down.weight", (2 + i, D)), ("lora_up.weight", (2 * D, 2 + i)))
    }  # fmt: skip
    write_safetensors(tmp_path / "fun.safetensors", plain)
    run("inspect", tmp_path / "fun.safetensors")
    said = capsys.readouterr().out
    assert "it looks like a LoRA, names of VideoX-Fun" in said and "2 modules of rank 2 (1), 3 (1)" in said
    files = {}
    for layout in ("original", "diffusers", "comfyui", "peft", "kohya"):
        files[layout] = tmp_path / f"{layout}.safetensors"
        command = ["export", "--part", "lora", "--source", tmp_path / "fun.safetensors", "--layout", layout]
        assert run(*command, "--output", files[layout]) == 0
        assert run("compare", tmp_path / "fun.safetensors", files[layout]) == 0
    run("inspect", files["original"])
    assert "names of StableAvatar" in capsys.readouterr().out
    where = ("--source", folder / "lora.safetensors", "--output", tmp_path / "k.safetensors")
    assert run("export", "--part", "lora", "--layout", "kohya", *where) == 1
    assert "have no name for a whole difference" in capsys.readouterr().err
