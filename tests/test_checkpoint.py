"""Weights in a model directory: they come back equal, in the dtype and sharding asked for, or not at all."""

import errno
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding
from numpy.testing import assert_array_equal

from stableavatar_jax import checkpoint, whole
from stableavatar_jax.checkpoint import Parts, check_params, iterate_params, load_params, save_params, saved_params
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.avatar import part
from stableavatar_jax.trees import flatten
from tests.params import random_params
from tests.training.tiny import MODEL


def tree():
    rng = np.random.default_rng(0)
    return {
        "layers": {"kernel": rng.standard_normal((3, 4, 5), np.float32), "bias": np.arange(5, dtype=np.float32)},
        "scale": np.array(2.5, np.float32),
        "half": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3),
        "count": np.arange(3, dtype=np.int32),
    }


def abstract(params=None):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree() if params is None else params)


def assert_equal(have, want):
    assert jax.tree.structure(have) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: assert_array_equal(np.asarray(a), np.asarray(b)), have, want)


@pytest.fixture
def folder(tmp_path):
    save_params(tmp_path / "dit", tree())
    return tmp_path / "dit"


def test_params_come_back(folder):
    params = load_params(folder, abstract())
    assert_equal(params, tree())
    assert jax.tree.map(lambda x: x.dtype, params) == jax.tree.map(lambda x: x.dtype, tree())
    assert [path.name for path in folder.parent.iterdir()] == ["dit"]


def test_floating_leaves_come_in_the_dtype_asked_for(folder):
    params = load_params(folder, abstract(), dtype="bfloat16")
    assert params["layers"]["kernel"].dtype == params["scale"].dtype == jnp.bfloat16
    assert params["count"].dtype == jnp.int32
    assert_array_equal(params["layers"]["kernel"], tree()["layers"]["kernel"].astype(jnp.bfloat16))


def test_params_come_in_the_sharding_asked_for(folder):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    replicated = jax.NamedSharding(mesh, jax.P())
    shardings = jax.tree.map(lambda leaf: sharding if leaf.ndim > 1 else replicated, abstract())
    params = load_params(folder, abstract(), shardings=shardings)
    assert jax.tree.map(lambda x: x.sharding, params) == shardings
    one = SingleDeviceSharding(jax.devices()[0])
    assert load_params(folder, abstract(), shardings=one)["scale"].sharding == one


def test_one_leaf_at_a_time(folder):
    assert_equal(dict(iterate_params(folder)), flatten(tree()))
    assert saved_params(folder)["layers/kernel"].shape == (3, 4, 5)


def test_a_missing_part_says_how_to_get_it(tmp_path):
    with pytest.raises(Mistake, match="python -m convert import --part vae --source FILE --output .*"):
        load_params(tmp_path / "vae", abstract())


def test_every_difference_is_named_before_anything_is_read(folder, monkeypatch):
    monkeypatch.setattr(checkpoint.ocp.Checkpointer, "restore", lambda *_: pytest.fail("values were read"))
    other = abstract()
    del other["scale"]
    other["head"] = {"kernel": jax.ShapeDtypeStruct((2,), np.float32)}
    other["layers"]["bias"] = jax.ShapeDtypeStruct((7,), np.float32)
    with pytest.raises(Mistake) as error:
        load_params(folder, other)
    for line in (
        "head/kernel is missing",
        "scale has no place in the model",
        "layers/bias has shape (5,), (7,) is needed",
        "import dit again with --overwrite",
    ):
        assert line in str(error.value)
    check_params(folder, abstract())


@pytest.mark.parametrize("damage", ["empty", "metadata", "chunk"])
def test_damaged_weights_name_the_part(tmp_path, damage):
    params = {"kernel": np.ones((3, 4), np.float32)}  # one leaf: orbax drops the reads of others when one fails
    save_params(tmp_path / "vae", params)
    if damage == "metadata":
        (tmp_path / "vae" / "_METADATA").write_text("{")
    if damage == "chunk":
        (tmp_path / "vae" / "kernel" / "0.0").write_bytes(b"damaged")
    if damage == "empty":
        shutil.rmtree(tmp_path / "vae")
        (tmp_path / "vae").mkdir()
    with pytest.raises(Mistake, match="no readable weights.*import vae again"):
        load_params(tmp_path / "vae", abstract(params))


def test_an_existing_folder_is_kept_unless_told(folder):
    other = {"a": np.ones(2, np.float32)}
    with pytest.raises(Mistake, match="exists already; choose another"):
        save_params(folder, other)
    assert_equal(load_params(folder, abstract()), tree())
    save_params(folder, other, overwrite=True)
    assert_equal(load_params(folder, abstract(other)), other)
    assert [path.name for path in folder.parent.iterdir()] == ["dit"]


@pytest.mark.parametrize("existing", [False, True])
def test_a_failed_save_leaves_what_was(tmp_path, monkeypatch, existing):
    if existing:
        save_params(tmp_path / "dit", tree())
    with pytest.raises(ValueError):
        save_params(tmp_path / "dit", {"good": np.ones(3), "bad": np.ones((0, 3))}, overwrite=True)
    monkeypatch.setattr(whole, "_rename", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(Mistake, match="dit: cannot be written .No space left"):
        save_params(tmp_path / "dit", {"a": np.ones(3)}, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == (["dit"] if existing else [])
    if existing:
        assert_equal(load_params(tmp_path / "dit", abstract()), tree())


def test_memory_mapped_arrays_are_saved_as_they_are(tmp_path):
    mapped = np.memmap(tmp_path / "scratch", np.float32, "w+", shape=(4, 8))
    mapped[...] = 3
    params = {"kernel": mapped, "jax": jnp.ones((2, 2))}
    save_params(tmp_path / "vae", params)
    assert_equal(load_params(tmp_path / "vae", abstract(params)), params)


def test_a_full_disk_is_one_line(tmp_path, caplog, capfd):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(Mistake, match="dit: cannot be written .File too large.; make room"):
            save_params(tmp_path / "dit", {"kernel": np.ones((1000,), np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == [] and not caplog.records and capfd.readouterr() == ("", "")


def test_a_transformer_of_another_directory(tmp_path):
    """It alone; all other parts stay the first directory's."""
    dit, params = part(MODEL, "dit"), random_params(part(MODEL, "dit"))
    encoder = random_params(part(MODEL, "umt5"))
    save_params(tmp_path / "student" / "dit", params)
    save_params(tmp_path / "model" / "umt5", encoder)
    parts = Parts(MODEL, tmp_path / "model", transformer=tmp_path / "student")
    assert_equal(parts.load("dit")[1], params)
    assert parts.load("dit")[0].config == dit.config
    assert_equal(parts.load("umt5")[1], encoder)
