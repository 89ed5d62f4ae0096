"""PyTorch's zip format, written without torch: what `torch.load(FILE, weights_only=True)` takes, mapped or not.

The records are those of `torch.save`: `data.pkl`, the pickle of an OrderedDict of tensors, put together here opcode by
opcode; `byteorder`; `data/0`, `data/1`, ... with each tensor's bytes, uncompressed, from a byte that 64 divides on; and
`version`. Entries are zip64, so that files and tensors may be of any size.
"""

import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.formats.pth import STORAGES
from stableavatar_jax.weights.formats.tensors import LazyTensor, pieces_of

ALIGNED = 64
LOCAL_HEADER = 30  # bytes, before the name
ZIP64_FIELD = 20
STORAGE_OF = {np.dtype(dtype): name for name, dtype in STORAGES.items() if dtype != "bfloat16"}


def write_pth(path: Path, tensors: Mapping[str, LazyTensor], tell: Callable[[int], None] = lambda size: None) -> None:
    """Write a file, one piece of a tensor in memory at a time; `tell` is called with the number of bytes written."""
    for name, tensor in tensors.items():
        if _storage(tensor) is None:
            raise Mistake(f"{path}: tensor {name} is {tensor.dtype}; give --dtype float32, bfloat16 or float16")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        _record(archive, "data.pkl", _pickle(tensors))
        _record(archive, "byteorder", b"little")
        pieces = pieces_of(tensors.values())
        for number, tensor in enumerate(tensors.values()):
            with archive.open(_entry(archive, f"data/{number}"), "w", force_zip64=True) as record:
                left = tensor.nbytes
                while left:
                    piece = next(pieces)
                    record.write(piece.reshape(-1).view(np.uint8).data)
                    tell(piece.nbytes)
                    left -= piece.nbytes
        _record(archive, "version", b"3\n")


def _record(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    with archive.open(_entry(archive, name), "w", force_zip64=True) as record:
        record.write(data)


def _entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """An entry whose bytes start at an aligned place: its header is filled up with an extra field, as PyTorch does."""
    info = zipfile.ZipInfo(f"archive/{name}")
    assert archive.fp is not None
    start = archive.fp.tell() + LOCAL_HEADER + len(info.filename) + ZIP64_FIELD + 4
    fill = -start % ALIGNED
    info.extra = b"FB" + struct.pack("<H", fill) + b"Z" * fill
    return info


def _storage(tensor: LazyTensor) -> str | None:
    return "BFloat16Storage" if tensor.dtype.name == "bfloat16" else STORAGE_OF.get(tensor.dtype)


def _pickle(tensors: Mapping[str, LazyTensor]) -> bytes:
    """The opcodes of an OrderedDict {name: tensor}, protocol 2."""
    parts = [b"\x80\x02", _call(_global("collections", "OrderedDict")), b"("]
    for number, (name, tensor) in enumerate(tensors.items()):
        held = _tuple(
            _text("storage"), _global("torch", _storage(tensor) or ""), _text(str(number)), _text("cpu"),
            _integer(tensor.size),
        )  # fmt: skip
        strides = [int(np.prod(tensor.shape[i + 1 :], dtype=np.int64)) for i in range(len(tensor.shape))]
        parts += [
            _text(name),
            _call(
                _global("torch._utils", "_rebuild_tensor_v2"), held + b"Q", _integer(0),
                _tuple(*map(_integer, tensor.shape)), _tuple(*map(_integer, strides)), b"\x89",
                _call(_global("collections", "OrderedDict")),
            ),
        ]  # fmt: skip
    return b"".join([*parts, b"u."])


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _integer(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def _call(function: bytes, *arguments: bytes) -> bytes:
    return function + _tuple(*arguments) + b"R"
