import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.checkpoint import load_part, save_params
from stableavatar_jax.config import write_config
from stableavatar_jax.configs.tiny import model
from stableavatar_jax.convert import parts
from stableavatar_jax.convert.commands import main
from stableavatar_jax.convert.importing import write_sampling
from stableavatar_jax.demo.preset import MODEL
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.avatar import abstract_params, part
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.sampling.defaults import DEFAULTS_FILE, read_defaults, with_defaults
from stableavatar_jax.trees import flatten


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: rng.standard_normal(x.shape).astype(np.float32), abstract_params(part(model, "wav2vec2"))
    )
    save_params(folder / "wav2vec2", params)
    write_config(folder, model)
    return folder


def test_a_packed_part_is_read_like_a_folder(folder, tmp_path, capsys):
    command = ["pack", "--checkpoint", str(folder), "--output", str(tmp_path), "--parts", "wav2vec2"]
    assert main(command) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "conversion.json", "wav2vec2.safetensors"]
    (_, whole), (_, packed) = (load_part(d, model, "wav2vec2", dtype="float32") for d in (folder, tmp_path))
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), whole)
    jax.tree.map(np.testing.assert_array_equal, packed, rounded)
    assert main(command) == 1 and "exists already" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    main(["verify", str(tmp_path)])
    assert "good" in capsys.readouterr().out


def test_how_a_model_is_sampled_goes_with_it(tmp_path):
    assert main(["pack", "--checkpoint", str(MODEL), "--output", str(tmp_path), "--parts", "wav2vec2"]) == 0
    assert (tmp_path / DEFAULTS_FILE).read_text() == (MODEL / DEFAULTS_FILE).read_text()


def test_a_damaged_or_foreign_file_is_refused(folder, tmp_path):
    main(["pack", "--checkpoint", str(folder), "--output", str(tmp_path), "--parts", "wav2vec2"])
    with pytest.raises(Mistake, match="do not fit together"):
        (tmp_path / "vae.safetensors").write_bytes((tmp_path / "wav2vec2.safetensors").read_bytes())
        load_part(tmp_path, model, "vae")
    file = tmp_path / "wav2vec2.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(Mistake, match="truncated"):
        load_part(tmp_path, model, "wav2vec2")


def test_pack_needs_the_part(folder, tmp_path, capsys):
    assert main(["pack", "--checkpoint", str(folder), "--output", str(tmp_path), "--parts", "vae"]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_random_weights_come_a_layer_at_a_time():
    """No two layers alike, each scaled as the network's own; what is in no layer comes first and whole."""
    own = parts.part("umt5", model)
    rows = list(own.rows(0, "bfloat16"))
    shapes = {path: leaf.shape for path, leaf in flatten(own.abstract).items()}
    for name, index, value in rows:
        assert value.dtype == jnp.bfloat16 and value.shape == (shapes[name] if index is None else shapes[name][1:])
    layers = [index for _, index, _ in rows if index is not None]
    assert layers == sorted(layers) and set(layers) == set(range(model.umt5.layers))
    kernels = [np.float32(value) for name, _, value in rows if name == "layers/ffn/up/kernel"]
    whole = np.float32(own.born(("layers/ffn/up/kernel",))["layers/ffn/up/kernel"])
    assert not np.array_equal(*kernels)
    for kernel in kernels:
        np.testing.assert_allclose(kernel.std(), whole.std(), rtol=0.1)
    assert len(rows) == sum(shape[0] if path.startswith("layers") else 1 for path, shape in shapes.items())


def test_random_weights_fit_the_model(tmp_path, capsys):
    """What the README's walk begins with; two parts stand for all."""
    command = ["random", "--config", "tiny", "--output", str(tmp_path / "model"), "--parts", "umt5", "wav2vec2"]
    assert main(command) == 0
    main(["verify", str(tmp_path / "model")])
    assert capsys.readouterr().out.count("good") == 2
    where = ["--source", str(tmp_path / "model"), "--output", str(tmp_path / "speech")]
    assert main(["export", "--part", "wav2vec2", "--layout", "transformers", *where]) == 0
    assert "drawn at random (seed 0): they have learned nothing" in (tmp_path / "speech" / "README.md").read_text()
    capsys.readouterr()
    assert main(command) == 1 and "exists already" in capsys.readouterr().err
    again = ["random", "--config", "tiny", "--output", str(tmp_path / "again"), "--parts", "wav2vec2"]
    main([*again, "--seed", "1"])
    file = "wav2vec2.safetensors"
    assert (tmp_path / "again" / file).read_bytes() != (tmp_path / "model" / file).read_bytes()
    main([*again, "--overwrite"])
    assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


def test_a_model_directory_takes_no_parts_of_itself(folder, tmp_path, capsys):
    """Not in a folder within it either: `MODEL/vae` would count as its VAE."""
    (tmp_path / "link").symlink_to(folder)
    for output in (folder, tmp_path / "link", folder / "vae"):
        assert main(["pack", "--checkpoint", str(folder), "--output", str(output), "--parts", "wav2vec2",
                     "--overwrite"]) == 1  # fmt: skip
        assert "is an input too" in (told := capsys.readouterr().err) or "which is read" in told
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "wav2vec2"]


def test_what_lies_beside_the_parts_may_be_one_file_in_both(folder, tmp_path):
    (folder / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer.json").symlink_to(folder / "tokenizer.json")
    try:
        assert main(["pack", "--checkpoint", str(folder), "--output", str(tmp_path), "--parts", "wav2vec2"]) == 0
        assert (folder / "tokenizer.json").read_text() == "{}"
    finally:
        (folder / "tokenizer.json").unlink()


def test_how_a_preset_samples_is_written_where_it_is_not_as_by_default(tmp_path):
    from stableavatar_jax.configs import avatar_14b, models

    write_sampling(tmp_path, models.avatar_1b, None)
    write_sampling(tmp_path, models.avatar_14b, "avatar_1b")
    assert list(tmp_path.iterdir()) == []
    write_sampling(tmp_path, models.avatar_14b, None)
    assert with_defaults(SampleConfig(), tmp_path).denoising == avatar_14b.config.denoising
    write_sampling(tmp_path, model, "tiny")  # what is there stays
    assert read_defaults(tmp_path).denoising.cfg_null == "silence"
