"""Damaged headers and indexes: 2,000 cases, each a clear message and never a traceback; and mixed-up or odd files."""

import json
import random

import numpy as np
import pytest

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.formats.files import open_tensors
from stableavatar_jax.weights.formats.pth_writer import write_pth
from stableavatar_jax.weights.formats.safetensors import write_safetensors
from stableavatar_jax.weights.formats.sharded import write_sharded
from stableavatar_jax.weights.formats.tensors import lazy
from stableavatar_jax.weights.formats.zarr import open_zarr
from stableavatar_jax.weights.scaled import rescaled
from tests.weights import pth

TENSORS = {"a.weight": lazy(np.arange(12, dtype=np.float32).reshape(3, 4)), "b": lazy(np.ones(5, np.float16))}
CASES = 500  # of each format


def damaged(data: bytes, seed: int, reach: int) -> bytes:
    """Data with one fault among its first `reach` bytes or its end: bytes changed, cut, doubled, or cut off."""
    draw = random.Random(seed)
    at, kind = draw.randrange(min(reach, len(data))), draw.randrange(5)
    if kind == 0:
        return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + data[at + draw.randrange(1, 9) :]
    if kind == 2:
        return data[:at] + data[at : at + draw.randrange(1, 20)] + data[at:]
    if kind == 3:
        return data[: draw.randrange(len(data))]
    digits = [i for i, byte in enumerate(data[:reach]) if chr(byte).isdigit()]
    at = draw.choice(digits) if digits else at
    return data[:at] + str(draw.choice([0, 9, 10**6, 10**18, -1])).encode() + data[at + 1 :]


def outcome(read) -> str:
    """How a read ended: whole, or refused with one screen that names the file. Anything else fails the test."""
    try:
        for tensor in read().values():
            if tensor.nbytes < 1 << 20:
                tensor.read()
        return "read"
    except Mistake as error:
        assert "damaged" in str(error) and len(str(error).splitlines()) < 20
        return "refused"


@pytest.mark.parametrize("form", ["safetensors", "pth", "index", "zarr"])
def test_damaged_headers_are_refused_without_a_traceback(tmp_path, form):
    folder = tmp_path / "damaged"
    folder.mkdir()
    if form == "safetensors":
        file, reach, read = folder / "w.safetensors", 200, lambda: open_tensors(folder / "w.safetensors")
        write_safetensors(file, TENSORS)
    elif form == "pth":
        file, reach, read = folder / "w.pth", 1200, lambda: open_tensors(folder / "w.pth")
        write_pth(file, TENSORS)
    elif form == "index":
        file, reach, read = folder / "m.safetensors.index.json", 300, lambda: open_tensors(folder)
        write_sharded(folder, "m", TENSORS, 1)
    else:
        file, reach, read = folder / "a" / ".zarray", 300, lambda: open_zarr(folder)
        file.parent.mkdir()
        about = {"chunks": [2, 3], "compressor": None, "dtype": "<f4", "order": "C", "shape": [4, 3], "filters": None}
        file.write_text(json.dumps(about))
        for name in ("0.0", "1.0"):
            (file.parent / name).write_bytes(np.ones((2, 3), np.float32).tobytes())
    data = file.read_bytes()
    assert outcome(read) == "read"
    outcomes = []
    for seed in range(CASES):
        file.write_bytes(damaged(data, seed, reach))
        outcomes.append(outcome(read))
    assert outcomes.count("refused") > CASES / 4


def test_an_over_large_header_is_refused_before_it_is_read(tmp_path):
    file = tmp_path / "w.safetensors"
    with file.open("wb") as opened:
        opened.write((1 << 40).to_bytes(8, "little") + b'{"a":')
        opened.truncate(1 << 34)  # a hole: it takes no room
    with pytest.raises(Mistake, match="a safetensors header of 1099511627776 bytes, too long"):
        open_tensors(file)


def test_wrappers_are_taken_off_in_either_format(tmp_path):
    for prefix in ("module.", "model.", "model.diffusion_model.", "_orig_mod.", "module._orig_mod.", "model.module."):
        named = {prefix + name: tensor for name, tensor in TENSORS.items()}
        write_safetensors(tmp_path / "w.safetensors", named)
        write_pth(tmp_path / "w.pth", named)
        assert set(open_tensors(tmp_path / "w.safetensors")) == set(open_tensors(tmp_path / "w.pth")) == set(TENSORS)
    compiled = {"blocks.0._orig_mod.q.weight": TENSORS["b"], "blocks.1.q.weight": TENSORS["b"]}
    write_safetensors(tmp_path / "w.safetensors", compiled)
    assert set(open_tensors(tmp_path / "w.safetensors")) == {"blocks.0.q.weight", "blocks.1.q.weight"}


def test_averages_nested_deeper_are_found_or_named(tmp_path):
    a = pth.tensor(pth.storage("FloatStorage", "0", 4), (4,), (1,))
    data = {"0": np.arange(4, dtype=np.float32).tobytes()}
    one = pth.mapping(step=pth.number(3), ema=pth.mapping(shadow=pth.mapping(**{"module.a": a})))
    assert set(open_tensors(pth.write(tmp_path / "one.pth", one, data))) == {"a"}
    two = pth.mapping(state_dict=pth.mapping(a=a), ema=pth.mapping(shadow=pth.mapping(a=a)))
    file = pth.write(tmp_path / "two.pth", two, data)
    with pytest.raises(Mistake, match=r"state_dict \(1\), ema/shadow \(1\); say which"):
        open_tensors(file)
    assert set(open_tensors(file, "ema/shadow")) == {"a"}


def test_gguf_is_refused_by_name(tmp_path):
    (tmp_path / "w.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(40))
    with pytest.raises(Mistake, match="a GGUF file"):
        open_tensors(tmp_path / "w.gguf")


@pytest.mark.parametrize(("scale", "shape"), [("scale_weight", ()), ("scale_weight", (1,)), ("weight_scale", (3, 1))])
def test_scales_of_8_bit_weights_are_applied(scale, shape):
    import ml_dtypes

    weight = np.array([[1, -2], [0.5, 4], [8, 0.25]], ml_dtypes.float8_e4m3fn)
    factors = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape) * 3
    tensors = {"q.weight": weight, f"q.{scale}": factors, "q.bias": np.ones(3, np.float16), "q.scale_input": np.ones(1),
               "scaled_fp8": np.zeros(2, ml_dtypes.float8_e4m3fn)}  # fmt: skip
    found = rescaled({name: lazy(value) for name, value in tensors.items()})
    assert set(found) == {"q.weight", "q.bias"} and found["q.weight"].dtype == np.float32
    np.testing.assert_array_equal(found["q.weight"].read(), weight.astype(np.float32) * factors.reshape(-1, 1))
    plain = {"q.weight": lazy(weight), "q.bias": lazy(np.ones(3, np.float16))}
    assert rescaled(plain) == plain
