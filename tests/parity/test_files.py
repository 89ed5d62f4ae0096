"""Our reader of PyTorch files against PyTorch itself."""

import collections

import ml_dtypes
import numpy as np
import pytest

from stableavatar_jax.errors import Mistake

torch = pytest.importorskip("torch", reason="torch lives in the environment of `make parity` alone")

from stableavatar_jax.weights.formats.files import open_tensors  # noqa: E402
from stableavatar_jax.weights.formats.pth_writer import write_pth  # noqa: E402
from stableavatar_jax.weights.formats.tensors import lazy  # noqa: E402

DTYPES = [
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
    "float8_e8m0fnu", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "complex64",
    "complex128",
]  # fmt: skip


def assert_same(path, expected, **options):
    """Shapes, dtypes and bits of every tensor are those PyTorch has."""
    tensors = open_tensors(path, **options)
    assert list(tensors) == list(expected)
    for name, tensor in expected.items():
        dense = tensor.detach().contiguous()
        ours = np.asarray(tensors[name])
        assert tensors[name].shape == ours.shape == tuple(dense.shape), name
        assert str(ours.dtype) == str(dense.dtype).removeprefix("torch."), name
        assert ours.tobytes() == dense.reshape(-1).view(torch.uint8).numpy().tobytes(), name


def save(path, saved):
    torch.save(saved, path)
    return path


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(tmp_path, dtype):
    bits = torch.randint(0, 2 if dtype == "bool" else 256, (16 * 12,), dtype=torch.uint8)
    dense = bits.view(getattr(torch, dtype)).reshape(4, -1)
    tensors = {"dense": dense, "turned": dense.T, "slice": dense[1:3, 1::2], "scalar": dense[2, 1], "empty": dense[:0]}
    assert_same(save(tmp_path / "w.pth", tensors), tensors)


def test_every_layout(tmp_path):
    x = torch.randn(4, 6, 5)
    tied = torch.nn.Linear(6, 6)
    tensors = {
        "permuted": x.permute(2, 0, 1),
        "expanded": x[:1].expand(7, 6, 5),
        "diagonal": x[0].diagonal(),
        "channels_last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "tied": tied.weight,
        "tied_again": tied.weight,
        "parameter": torch.nn.Parameter(x),
        "frozen": torch.nn.Parameter(x, requires_grad=False),
        "gradient": torch.randn(3, requires_grad=True),
    }
    assert_same(save(tmp_path / "w.pth", tensors), tensors)


def test_a_module_and_what_is_saved_with_it(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 3), torch.nn.BatchNorm3d(4), torch.nn.Linear(4, 2).bfloat16())
    weights = model.state_dict()
    assert isinstance(weights, collections.OrderedDict) and weights._metadata
    assert_same(save(tmp_path / "plain.pth", weights), weights)

    optimizer = torch.optim.AdamW(model.parameters())
    model[0](torch.randn(1, 3, 3, 3, 3)).sum().backward()
    optimizer.step()
    weights = model.state_dict()
    saved = {
        "state_dict": {f"module.{name}": tensor for name, tensor in weights.items()},
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "loss": 0.5,
        "shape": weights["0.weight"].shape,
        "dtype": torch.bfloat16,
        "names": ("a", ["b", None, True]),
    }
    assert_same(save(tmp_path / "training.pth", saved), weights)

    nested = collections.OrderedDict(encoder=weights, decoder=collections.OrderedDict(a=torch.ones(2)))
    path = save(tmp_path / "nested.pth", nested)
    assert_same(path, weights, key="encoder")
    assert_same(path, nested["decoder"], key="decoder")


def test_many_entries(tmp_path):
    tensors = {f"layers.{i}.weight": torch.randn(64, 33) for i in range(300)}
    assert_same(save(tmp_path / "w.pt", tensors), tensors)


class Thing:
    """Any class of the user's own."""


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (Thing(), r"test_files\.Thing"),
        (torch.nn.Linear(1, 1), r"torch\.nn\.modules\.linear\.Linear"),
        (np.zeros(3), r"numpy\..*_reconstruct"),
        (torch.zeros(2).to_sparse(), "_rebuild_sparse_tensor"),
        (torch.zeros(2, dtype=torch.complex64).conj(), "a tensor with conj set"),
    ],
    ids=["class", "module", "numpy", "sparse", "conjugated"],
)
def test_what_is_no_plain_tensor_is_refused(tmp_path, what, name):
    with pytest.raises(Mistake, match=f"{name}.*nothing was run"):
        open_tensors(save(tmp_path / "w.pth", {"a": torch.ones(1), "b": what}))


def test_the_format_before_the_zip_is_refused(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(Mistake, match="before 1.6"):
        open_tensors(tmp_path / "w.pth")


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_loads_what_we_write(tmp_path, mmap):
    rng = np.random.default_rng(0)
    arrays = {
        "turned": rng.standard_normal((30, 20)).astype(np.float32).T, "scalar": np.float32(3).reshape(()),
        "empty": np.zeros((0, 3), np.float32), "half": rng.standard_normal((3, 4, 5)).astype(np.float16),
        "bf16": rng.standard_normal(7).astype(ml_dtypes.bfloat16), "count": np.arange(5), "flags": np.array([True]),
    }  # fmt: skip
    write_pth(tmp_path / "w.pt", {name: lazy(array) for name, array in arrays.items()})
    saved = torch.load(tmp_path / "w.pt", weights_only=True, mmap=mmap)
    assert list(saved) == list(arrays)
    for name, array in arrays.items():
        dense = saved[name].contiguous().reshape(-1).view(torch.uint8).numpy()
        assert tuple(saved[name].shape) == array.shape and dense.tobytes() == array.tobytes(), name
        assert str(saved[name].dtype).removeprefix("torch.") == array.dtype.name
    assert_same(tmp_path / "w.pt", saved)
