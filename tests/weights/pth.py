"""PyTorch weight files made without torch: pickles put together opcode by opcode, in the zip layout of torch.save."""

import struct
import zipfile
from pathlib import Path

import numpy as np

FALSE = b"\x89"
STORAGE_OF = {"float32": "Float", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long"}


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def sequence(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + sequence(*arguments) + b"R"


def mapping(**items: bytes) -> bytes:
    pairs = b"".join(text(key) + value for key, value in items.items())
    return call(name("collections", "OrderedDict")) + b"(" + pairs + b"u"


def storage(kind: str, key: str, count: int, module: str = "torch") -> bytes:
    return sequence(text("storage"), name(module, kind), text(key), text("cpu"), number(count)) + b"Q"


def tensor(held: bytes, shape=(), strides=(), offset=0, dtype: str | None = None) -> bytes:
    sizes = sequence(*map(number, shape)), sequence(*map(number, strides))
    common = held, number(offset), *sizes, FALSE, mapping()
    if dtype is None:
        return call(name("torch._utils", "_rebuild_tensor_v2"), *common)
    return call(name("torch._utils", "_rebuild_tensor_v3"), *common, name("torch", dtype))


def write(path: Path, body: bytes, storages: dict[str, bytes], *, packed: bool = False, **records: bytes) -> Path:
    """A file as torch.save writes it; `records` are further entries such as byteorder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
        for key, data in {**records, **{f"data/{key}": data for key, data in storages.items()}}.items():
            archive.writestr(f"archive/{key}", data)
    return path


def save(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """A state dict of dense tensors."""
    body, storages = {}, {}
    for i, (key, array) in enumerate(tensors.items()):
        held = storage(f"{STORAGE_OF[array.dtype.name]}Storage", str(i), array.size)
        body[key] = tensor(held, array.shape, [s // array.itemsize for s in array.strides])
        storages[str(i)] = array.tobytes()
    return write(path, mapping(**body), storages)
