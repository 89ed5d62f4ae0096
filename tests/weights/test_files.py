"""Weight files: what is read, and what is refused before anything is run or allocated."""

import io
import json
import pickle
import tarfile

import ml_dtypes
import numpy as np
import pytest

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.formats.files import open_tensors
from tests.weights import pth

F32 = np.arange(24, dtype=np.float32)


def assert_holds(tensors, expected):
    assert set(tensors) == set(expected)
    for name, array in expected.items():
        assert tensors[name].shape == array.shape and tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(np.asarray(tensors[name]), array)


def write_safetensors(path, entries, data=b"", **changes):
    """`entries`: {name: (dtype, shape, first, last)}."""
    header = {n: {"dtype": d, "shape": s, "data_offsets": [a, b]} for n, (d, s, a, b) in entries.items()}
    raw = changes.get("raw", json.dumps(header).encode())
    path.write_bytes(changes.get("length", len(raw)).to_bytes(8, "little") + raw + data)
    return path


# PyTorch's zip format


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, ml_dtypes.bfloat16])
def test_pth_dtypes(tmp_path, dtype):
    arrays = {"a": np.arange(6).reshape(2, 3).astype(dtype), "b": np.array(7).astype(dtype)}
    assert_holds(open_tensors(pth.save(tmp_path / "w.pth", arrays)), arrays)


def test_pth_views_share_a_storage(tmp_path):
    held, parameter = pth.storage("FloatStorage", "0", 24), pth.name("torch._utils", "_rebuild_parameter")
    body = pth.mapping(
        whole=pth.tensor(held, (4, 6), (6, 1)),
        turned=pth.tensor(held, (6, 4), (1, 6)),
        slice=pth.tensor(held, (2, 2), (6, 2), offset=7),
        empty=pth.tensor(held, (0, 6), (6, 1)),
        parameter=pth.call(parameter, pth.tensor(held, (3,), (1,)), pth.FALSE, pth.mapping()),
    )
    whole = F32.reshape(4, 6)
    expected = {"whole": whole, "turned": whole.T, "slice": whole[1:3, 1:4:2], "empty": whole[:0], "parameter": F32[:3]}
    assert_holds(open_tensors(pth.write(tmp_path / "w.pth", body, {"0": F32.tobytes()})), expected)


def test_pth_untyped_storage(tmp_path):
    array = np.array([[0.5, -448.0]], ml_dtypes.float8_e4m3fn)
    held = pth.storage("UntypedStorage", "0", 2, module="torch.storage")
    body = pth.mapping(a=pth.tensor(held, (1, 2), (2, 1), dtype="float8_e4m3fn"))
    assert_holds(open_tensors(pth.write(tmp_path / "w.pth", body, {"0": array.tobytes()})), {"a": array})


def test_pth_of_the_other_byte_order(tmp_path):
    body = pth.mapping(a=pth.tensor(pth.storage("FloatStorage", "0", 24), (24,), (1,)))
    path = pth.write(tmp_path / "w.pth", body, {"0": F32.byteswap().tobytes()}, byteorder=b"big")
    assert_holds(open_tensors(path), {"a": F32})


def test_nothing_is_read_until_asked(tmp_path):
    path, far = tmp_path / "w.safetensors", 100 << 30
    write_safetensors(path, {"huge": ("U8", [far], 0, far), "small": ("F32", [24], far, far + 96)})
    with path.open("r+b") as file:  # a hole of 100 GiB, which takes no room on disk
        file.seek(path.stat().st_size + far)
        file.write(F32.tobytes())
    tensors = open_tensors(path)
    assert tensors["huge"].nbytes == far
    assert_holds({"small": tensors["small"]}, {"small": F32})
    assert not tensors["small"].read().flags.writeable


def test_weights_inside_a_training_checkpoint(tmp_path):
    a = pth.tensor(pth.storage("FloatStorage", "0", 24), (24,), (1,))
    data = {"0": F32.tobytes()}
    one = pth.mapping(epoch=pth.number(3), state_dict=pth.mapping(**{"module.a": a}), note=pth.text("x"))
    assert_holds(open_tensors(pth.write(tmp_path / "one.pth", one, data)), {"a": F32})
    two = pth.write(tmp_path / "two.pth", pth.mapping(model=pth.mapping(a=a), ema=pth.mapping(b=a)), data)
    with pytest.raises(Mistake, match=r"model \(1\), ema \(1\); say which, such as --key"):
        open_tensors(two)
    assert_holds(open_tensors(two, key="ema"), {"b": F32})
    with pytest.raises(Mistake, match="no tensors at key 'weights'; there are some at 'model', 'ema'"):
        open_tensors(two, key="weights")


class Attack:
    """A pickle that would make a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path):
    made = tmp_path / "made"
    body = pickle.dumps(Attack(made), protocol=2)[2:-1]
    path = pth.write(tmp_path / "w.pth", pth.mapping(a=body), {})
    with pytest.raises(Mistake, match=r"w\.pth: it holds \w+\.open, .*; nothing was run; save the weights alone"):
        open_tensors(path)
    assert not made.exists()


BUILD = b"}" + pth.text("call") + pth.name("torch", "float32") + b"sb"


@pytest.mark.parametrize(
    "body",
    [
        pth.name("builtins", "eval"),
        pth.name("torch._utils", "_rebuild_tensor_v2.__globals__"),
        pth.name("collections", "OrderedDict.fromkeys"),
        pth.name("torch._utils", "_rebuild_tensor_v2") + BUILD,
        pth.name("collections", "OrderedDict") + BUILD,
        pth.name("torch", "float32") + BUILD,
        pth.call(pth.name("torch", "FloatStorage"), pth.number(1)),
        pth.call(pth.name("torch._utils", "_rebuild_qtensor"), pth.number(1)),
    ],
)
def test_whatever_is_no_tensor_is_refused(tmp_path, body):
    with pytest.raises(Mistake):
        open_tensors(pth.write(tmp_path / "w.pth", pth.mapping(a=body), {}))


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((25,), (1,), 0),
        ((24,), (1,), 1),
        ((2, 12), (13, 1), 0),
        ((-1,), (1,), 0),
        ((4,), (-1,), 3),
        ((2**31 - 1,), (1,), 0),
        ((2, 3), (1,), 0),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, shape, strides, offset):
    body = pth.mapping(a=pth.tensor(pth.storage("FloatStorage", "0", 24), shape, strides, offset))
    with pytest.raises(Mistake, match="damaged"):
        open_tensors(pth.write(tmp_path / "w.pth", body, {"0": F32.tobytes()}))


def test_damaged_pth_files(tmp_path):
    whole = pth.save(tmp_path / "w.pth", {"a": F32}).read_bytes()
    cases = {
        "truncated": whole[: len(whole) // 2],
        "its index cannot be read": whole.replace(b"PK\x03\x04", b"PK\x00\x00", 1),
        "not where the archive's index says": b"PK\x00\x00".join(whole.rsplit(b"PK\x03\x04", 1)),
        "its pickle cannot be read": pth.write(tmp_path / "p.pth", b"(((", {}).read_bytes(),
        "a memo index beyond its end": pth.write(tmp_path / "m.pth", b"Nr\xff\xff\xff\x7f", {}).read_bytes(),
        "reaches beyond its storage": pth.write(
            tmp_path / "s.pth", pth.mapping(a=pth.tensor(pth.storage("FloatStorage", "9", 1))), {"0": b"1234"}
        ).read_bytes(),
        "is compressed": pth.write(tmp_path / "c.pth", pth.mapping(), {"0": b"0" * 99}, packed=True).read_bytes(),
        "TorchScript": pth.write(tmp_path / "t.pth", pth.mapping(), {}, **{"constants.pkl": b""}).read_bytes(),
        "without tensors by name": pth.write(tmp_path / "l.pth", b"]", {}).read_bytes(),
    }
    for message, data in cases.items():
        (tmp_path / "bad.pth").write_bytes(data)
        with pytest.raises(Mistake, match=message):
            open_tensors(tmp_path / "bad.pth")


def test_files_that_are_no_weights(tmp_path):
    old_torch = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"))
    cases = {
        "empty file; download it again": b"",
        "git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
        "a web page": b"\n<!DOCTYPE html><html></html>",
        "before 1.6": old_torch,
        "tar archive": tar.getvalue(),
        "starts with b'hello": b"hello, these are no weights",
        "a JSON file": b'{"weight_map": {}}',
    }
    for message, data in cases.items():
        (tmp_path / "w.pth").write_bytes(data)
        with pytest.raises(Mistake, match=message) as error:
            open_tensors(tmp_path / "w.pth")
        assert str(tmp_path / "w.pth") in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(Mistake, match="no such file"):
        open_tensors(tmp_path / "absent")


# safetensors


def test_safetensors_dtypes(tmp_path):
    arrays = {
        "f32": F32.reshape(4, 6),
        "scalar": np.float64(2.5).reshape(()),
        "empty": np.zeros((0, 3), np.float32),
        "odd": np.array([1, 0, 1], np.bool_),  # three bytes: all that follow are unaligned
        "bf16": np.array([1.5, -2], ml_dtypes.bfloat16),
        "f8": np.array([[0.5, 448.0]], ml_dtypes.float8_e4m3fn),
        "f8_e5m2": np.array([0.25], ml_dtypes.float8_e5m2),
        "i64": np.array([-1, 2**40]),
    }
    names = dict(zip(arrays, ["F32", "F64", "F32", "BOOL", "BF16", "F8_E4M3", "F8_E5M2", "I64"], strict=True))
    data, entries = b"", {}
    for key, array in arrays.items():
        entries[key] = (names[key], list(array.shape), len(data), len(data) + array.nbytes)
        data += array.tobytes()
    assert_holds(open_tensors(write_safetensors(tmp_path / "w.safetensors", entries, data)), arrays)


A = ("F32", [2], 0, 8)


@pytest.mark.parametrize(
    ("message", "entries", "data", "changes"),
    [
        ("truncated", {"a": A}, b"1234", {}),
        ("too long", {"a": A}, b"123456789", {}),
        ("truncated", {"a": A}, b"12345678", {"length": 10_000}),
        ("not valid JSON", {}, b"", {"raw": b'{"a": '}),
        ("appears twice", {}, b"", {"raw": b'{"a": 1, "a": 1}'}),
        ("malformed", {}, b"", {"raw": b'{"a": 1}'}),
        ("malformed", {"a": ("F32", [-2], 0, 8)}, b"12345678", {}),
        ("has 8 bytes", {"a": ("F32", [3], 0, 8)}, b"12345678", {}),
        ("unknown dtype", {"a": ("F99", [2], 0, 8)}, b"12345678", {}),
        ("b starts at byte 4 where 8 is due", {"a": A, "b": ("F32", [2], 4, 12)}, b"123456781234", {}),
        ("b starts at byte 12 where 8 is due", {"a": A, "b": ("F32", [1], 12, 16)}, b"1234567812345678", {}),
        ("no tensors", {}, b"", {}),
    ],
)
def test_damaged_safetensors(tmp_path, message, entries, data, changes):
    with pytest.raises(Mistake, match=message):
        open_tensors(write_safetensors(tmp_path / "w.safetensors", entries, data, **changes))


# folders of shards


def shards(folder, suffix, count=2):
    for i in range(count):
        path = folder / f"model-0000{i + 1}-of-0000{count}{suffix}"
        if suffix == ".bin":
            pth.save(path, {f"w{i}": F32 + i})
        else:
            write_safetensors(path, {f"w{i}": ("F32", [24], 0, 96)}, (F32 + i).tobytes())


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("indexed", [True, False])
def test_shards_read_as_one(tmp_path, suffix, indexed):
    shards(tmp_path, suffix)
    if indexed:
        places = {f"w{i}": f"model-0000{i + 1}-of-00002{suffix}" for i in range(2)}
        (tmp_path / f"model{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert_holds(open_tensors(tmp_path), {"w0": F32, "w1": F32 + 1})


def test_folders_that_are_not_whole(tmp_path):
    with pytest.raises(Mistake, match="no weight files"):
        open_tensors(tmp_path)
    shards(tmp_path, ".safetensors", 3)
    index = tmp_path / "model.safetensors.index.json"

    def name(**places):
        index.write_text(json.dumps({"weight_map": places}))

    name(w0="model-00002-of-00003.safetensors")
    with pytest.raises(Mistake, match="tensor w0 is not in it, though model.safetensors.index.json says so"):
        open_tensors(tmp_path)
    for place in ("../outside.safetensors", 3):
        name(w0=place)
        with pytest.raises(Mistake, match="no index of shards"):
            open_tensors(tmp_path)
    name(w0="model-00009-of-00003.safetensors")
    with pytest.raises(Mistake, match="this shard is missing"):
        open_tensors(tmp_path)
    index.unlink()
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(Mistake, match="1 of 3 shards are missing, model-00002-of-00003.safetensors first"):
        open_tensors(tmp_path)


def test_two_variants_of_one_model_are_ambiguous(tmp_path):
    for name in ("model.fp16.safetensors", "model.safetensors"):
        write_safetensors(tmp_path / name, {"a": A}, b"12345678")
    with pytest.raises(Mistake, match="both hold a; give the one file"):
        open_tensors(tmp_path)
