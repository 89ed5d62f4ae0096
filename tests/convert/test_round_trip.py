"""Export undoes import: on two layers of real width, and through real files of a small model in every layout."""

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest

from stableavatar_jax.config import write_config
from stableavatar_jax.configs.models import avatar_1b, avatar_14b
from stableavatar_jax.configs.tiny import model as tiny
from stableavatar_jax.convert import parts
from stableavatar_jax.convert.commands import main
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.directory import open_part, write_part
from stableavatar_jax.weights.formats.files import open_tensors
from stableavatar_jax.weights.formats.pth_writer import write_pth
from stableavatar_jax.weights.formats.tensors import LazyTensor, lazy

BLOCK = np.random.default_rng(0).integers(0, 1 << 15, 65537, np.uint16).view(ml_dtypes.bfloat16)  # a prime: no period
REAL = [("dit", avatar_1b), ("dit", avatar_14b)] + [(name, avatar_1b) for name in parts.PARTS[1:]]
FILES = [
    ("dit", "original", "dit.pt"), ("dit", "original", "folder"), ("dit", "diffusers", "folder"),
    ("vae", "original", "vae.pth"), ("vae", "diffusers", "folder"), ("umt5", "original", "umt5.pth"),
    ("umt5", "transformers", "folder"), ("clip_vision", "original", "clip.safetensors"),
    ("clip_vision", "transformers", "folder"), ("wav2vec2", "transformers", "folder"),
    ("wav2vec2", "original", "pytorch_model.bin"),
]  # fmt: skip


def bits(array):
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def thin(config):
    """The same widths, two layers; and an eighth of the text encoder's table, which is rows of one kind."""
    changes = {name: value for name, value in (("layers", 2), ("vocab", 32048)) if hasattr(config, name)}
    return dataclasses.replace(config, **changes)


@pytest.mark.parametrize(("name", "model"), REAL, ids=["dit-1.3B", "dit-14B", *parts.PARTS[1:]])
def test_two_layers_of_real_width_come_back_bit_for_bit(name, model):
    """In every naming; a tensor's values are made when it is read, so that none of it is in memory for long."""
    part = parts.part(name, dataclasses.replace(model, **{name: thin(getattr(model, name))}))
    for number, naming in enumerate(n for n in part.namings if not n.fresh):
        source = {
            key: LazyTensor(shape, BLOCK.dtype, lambda key=key, shape=shape: np.resize(np.roll(BLOCK, len(key)), shape))
            for key, shape in part.shapes(naming).items()
        }
        flat, report = rules.loaded(naming, part.config, source, part.abstract, dtype=BLOCK.dtype)
        assert report == rules.Report()
        back = rules.exported(naming, part.config, flat)
        assert {key: x.shape for key, x in back.items()} == {key: x.shape for key, x in source.items()}
        large = 0
        for key, tensor in source.items():
            large += tensor.size > 1 << 22
            if number == 0 or tensor.size <= 1 << 22 or large < 3:  # other namings differ by name alone
                assert np.array_equal(bits(back[key].read()), bits(tensor.read())), key


def test_all_tensors_of_both_sizes_come_back_in_name_and_shape():
    for name, model in REAL:
        part = parts.part(name, model)
        for naming in part.namings:
            shapes = part.shapes(naming)
            source = {key: LazyTensor(shape, BLOCK.dtype, lambda: BLOCK) for key, shape in shapes.items()}
            flat, report = rules.loaded(naming, part.config, source, part.abstract)
            leaves = rules.flatten(part.abstract)
            for path in set(report.fresh):
                del leaves[path]
            assert {path: x.shape for path, x in flat.items()} == {path: x.shape for path, x in leaves.items()}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model directory, bfloat16 but for one part."""
    folder = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(0)
    for name in parts.PARTS:
        dtype = np.float32 if name == "vae" else ml_dtypes.bfloat16
        leaves = rules.flatten(parts.part(name, tiny).abstract)
        drawn = {path: rng.standard_normal(leaf.shape, np.float32).astype(dtype) for path, leaf in leaves.items()}
        write_part(folder / name, {path: lazy(value) for path, value in drawn.items()})
    write_config(folder, tiny)
    return folder


def export(model, name, layout, output, *more):
    return main(["export", "--part", name, "--source", str(model), "--layout", layout, "--output", str(output), *more])


def bring_in(name, source, output):
    return main(["import", "--part", name, "--source", str(source), "--output", str(output), "--config", "tiny"])


@pytest.mark.parametrize(("name", "layout", "file"), FILES)
def test_import_undoes_export(model, tmp_path, name, layout, file):
    assert export(model, name, layout, tmp_path / file, "--shard-size", "0.00005") == 0
    assert bring_in(name, tmp_path / file, tmp_path / "again") == 0
    first, again = open_part(model / name), open_part(tmp_path / "again" / name)
    assert first.keys() == again.keys()
    for path, tensor in first.items():
        assert tensor.dtype == again[path].dtype
        assert np.array_equal(bits(tensor.read()), bits(again[path].read())), path
    if file == "folder" and name != "wav2vec2":
        assert len(list((tmp_path / file).glob("*-of-*.safetensors"))) > 1


@pytest.mark.parametrize("name", ["dit", "umt5"])
def test_what_is_changed_between_comes_out_changed_and_nothing_else(model, tmp_path, name):
    export(model, name, "original", tmp_path / "first.pt")
    bring_in(name, tmp_path / "first.pt", tmp_path / "model")
    path = {"dit": "blocks/ffn/up/kernel", "umt5": "layers/ffn/up/kernel"}[name]
    tensors = open_part(tmp_path / "model" / name)
    kernel = np.array(tensors[path].read())
    kernel[1, 2, 3] += 1
    write_part(tmp_path / "changed" / name, {**tensors, path: lazy(kernel)})
    write_config(tmp_path / "changed", tiny)
    export(tmp_path / "changed", name, "original", tmp_path / "second.pt")
    first, second = open_tensors(tmp_path / "first.pt"), open_tensors(tmp_path / "second.pt")
    different = {key: np.argwhere(first[key].read() != second[key].read()).tolist() for key in first}
    where = {"dit": "blocks.1.ffn.0.weight", "umt5": "blocks.1.ffn.fc1.weight"}[name]
    assert {key: at for key, at in different.items() if at} == {where: [[3, 2]]}


def test_dtype_and_what_a_file_may_lack(model, tmp_path):
    tensors = open_part(model / "wav2vec2")
    zero = {**tensors, "masked_feature": lazy(np.zeros(tensors["masked_feature"].shape, np.float32))}
    write_part(tmp_path / "model" / "wav2vec2", zero)
    write_config(tmp_path / "model", tiny)
    assert export(tmp_path / "model", "wav2vec2", "original", tmp_path / "w.safetensors", "--dtype", "float16") == 0
    held = open_tensors(tmp_path / "w.safetensors")
    assert "wav2vec2.masked_spec_embed" not in held and {str(x.dtype) for x in held.values()} == {"float16"}


def test_export_refuses_before_it_writes(model, tmp_path, capsys):
    assert export(model, "vae", "transformers", tmp_path / "out") == 1
    assert "--layout transformers: vae has no such layout; give original or diffusers" in capsys.readouterr().err
    for size in ("0", "-1"):
        assert export(model, "vae", "original", tmp_path / "out", "--shard-size", size) == 1
        assert "a shard has more than 0 GB" in capsys.readouterr().err
    (tmp_path / "w.pt").write_bytes(b"mine")
    assert export(model, "vae", "original", tmp_path / "w.pt") == 1
    assert "exists already" in capsys.readouterr().err and (tmp_path / "w.pt").read_bytes() == b"mine"
    assert export(model, "vae", "original", model / "inside") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.pt"]


def test_exported_files_have_the_usual_permissions_and_a_record(model, tmp_path):
    export(model, "clip_vision", "transformers", tmp_path / "clip")
    export(model, "clip_vision", "original", tmp_path / "clip.pt")
    (tmp_path / "usual").write_text("")
    usual = (tmp_path / "usual").stat().st_mode
    files = [tmp_path / "clip.pt", *(tmp_path / "clip").iterdir()]
    assert {file.stat().st_mode for file in files} == {usual}
    assert json.loads((tmp_path / "clip" / "conversion.json").read_text())["clip_vision"]["from"]
    assert json.loads((tmp_path / "conversion.json").read_text())["clip.pt"]["command"] == "export"


def test_the_backbone_alone_is_padded_and_told(model, tmp_path, capsys):
    """A text-to-video file's patches have 16 input channels; what is of sound is born as for training."""
    export(model, "dit", "original", tmp_path / "dit.safetensors")
    held = open_tensors(tmp_path / "dit.safetensors")
    thin = {key: x for key, x in held.items() if "vocal" not in key}
    patches = held["patch_embedding.weight"].read()
    thin["patch_embedding.weight"] = lazy(np.ascontiguousarray(patches[:, :16]))
    write_pth(tmp_path / "base.pt", thin)
    capsys.readouterr()
    assert bring_in("dit", tmp_path / "base.pt", tmp_path / "base") == 0
    said = capsys.readouterr().out
    assert "patch_embedding.weight: 16 input channels, padded with zeros to 36" in said
    assert "initialised: audio_adapter/" in said and "initialised: blocks/cross_attention/k_audio/kernel" in said
    flat = open_part(tmp_path / "base" / "dit")
    wide = np.pad(patches[:, :16], [(0, 0), (0, 20), (0, 0), (0, 0), (0, 0)])
    assert np.array_equal(bits(flat["patch_embedding/kernel"].read()), bits(wide.reshape(len(wide), -1).T))


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_a_text_to_video_backbone_begins_without_a_picture(model, tmp_path, capsys, layout):
    """What it lacks of the picture adds nothing at first: the blocks' keys and values of it are zero."""
    export(model, "dit", layout, tmp_path / "dit")
    held = open_tensors(tmp_path / "dit")
    of_picture = ("vocal", "img", "image_embedder", "add_k_proj", "add_v_proj", "norm_added_k")
    thin = {key: x for key, x in held.items() if not any(part in key for part in of_picture)}
    thin["patch_embedding.weight"] = lazy(held["patch_embedding.weight"].read()[:, :16])
    write_pth(tmp_path / "base.pt", thin)
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "base.pt"), "--config", "tiny"]) == 0
    assert "text-to-video (audio and picture modules are initialised)" in capsys.readouterr().out
    assert bring_in("dit", tmp_path / "base.pt", tmp_path / "base") == 0
    said = capsys.readouterr().out
    assert "16 input channels, padded with zeros to 36" in said and "train the model before it makes videos" in said
    name = {"original": "cross_attn.v_img", "diffusers": "attn2.add_v_proj"}[layout]
    assert f"set to zero: blocks.*.{name}.weight (2 tensors)" in said and "initialised: image_embedding/mlp" in said
    first, base = open_part(model / "dit"), open_part(tmp_path / "base" / "dit")
    assert first.keys() == base.keys()
    for path, tensor in base.items():
        value = tensor.read()
        if any(f"/{name}/" in path for name in ("k_image", "v_image", "k_audio", "v_audio")):
            assert not value.any(), path
        elif path.startswith(("audio_adapter", "image_embedding")) or "norm_k_image" in path:
            assert np.isfinite(value.astype(np.float32)).all()
        elif path != "patch_embedding/kernel":
            assert np.array_equal(bits(value), bits(first[path].read())), path


def test_a_file_is_compared_by_the_sizes_of_the_directory(tmp_path, capsys):
    """Of a model that is no known one, without --config."""
    own = dataclasses.replace(tiny, wav2vec2=dataclasses.replace(tiny.wav2vec2, layers=3))
    leaves = rules.flatten(parts.part("wav2vec2", own).abstract)
    drawn = {path: lazy(np.full(leaf.shape, 0.5, np.float32)) for path, leaf in leaves.items()}
    write_part(tmp_path / "own" / "wav2vec2", drawn)
    write_config(tmp_path / "own", own)
    export(tmp_path / "own", "wav2vec2", "transformers", tmp_path / "w.safetensors")
    assert main(["compare", str(tmp_path / "w.safetensors"), str(tmp_path / "own")]) == 0
    assert f"{len(drawn)} of {len(drawn)} tensors are equal" in capsys.readouterr().out


def test_a_folder_of_diffusers_comes_back_as_a_model(model, tmp_path, capsys):
    """Parts lie where diffusers keeps them: one by one with --part, or all at once."""
    pipeline = tmp_path / "pipeline"
    for name, place in (("dit", "transformer"), ("vae", "vae")):
        export(model, name, "diffusers", pipeline / place)
    (pipeline / "model_index.json").write_text("{}")
    assert bring_in("dit", pipeline, tmp_path / "one") == 0
    command = ["import", "--source", str(pipeline), "--output", str(tmp_path / "all"), "--config", "tiny"]
    assert main(command) == 0
    for name, where in (("dit", "one"), ("dit", "all"), ("vae", "all")):
        want, have = open_part(model / name), open_part(tmp_path / where / name)
        assert all(np.array_equal(bits(tensor.read()), bits(have[path].read())) for path, tensor in want.items())
    assert bring_in("umt5", pipeline, tmp_path / "one") == 1
    assert "this diffusers folder has no umt5; it has dit, vae" in capsys.readouterr().err
