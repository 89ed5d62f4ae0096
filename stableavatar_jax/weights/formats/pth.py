"""PyTorch's zip format (`torch.save` since 1.6), read without torch and without running what it holds.

A zip archive: `NAME/data.pkl` is a pickle of the saved object, in which each tensor names a storage, its dtype, offset,
sizes and strides; `NAME/data/KEY` are the storages' bytes, uncompressed, and so can be mapped. The unpickler below
knows tensors and plain containers, and refuses every other class or function by name before anything is called.
"""

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.formats.tensors import LazyTensor, is_count, mapped

DAMAGED = "the file is damaged, download it again"
SAVE_AGAIN = "save the weights alone, torch.save(model.state_dict(), FILE)"
DTYPES = {
    name: np.dtype(getattr(ml_dtypes, name, name))
    for name in (
        "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
        "float8_e5m2fnuz", "float8_e8m0fnu", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "bool", "complex64", "complex128",
    )
}  # fmt: skip
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "CharStorage": "int8", "ShortStorage": "int16", "IntStorage": "int32", "LongStorage": "int64",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}  # fmt: skip


class Tensor(NamedTuple):
    """A tensor as the pickle describes it: a strided view, in elements, of the storage of a zip entry."""

    entry: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def stop(self) -> int:
        """One past the last element of the storage that the tensor reads."""
        if 0 in self.shape:
            return 0
        return self.offset + 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))


def read_pth(path: Path) -> tuple[Any, Callable[[Tensor], LazyTensor]]:
    """The saved object, with a `Tensor` in place of each tensor, and what maps a Tensor from disk.

    Containers come as dict, list and tuple. Raises Mistake for a damaged archive and for a pickle that asks for
    any other class or function.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise Mistake.at(path, "truncated: a zip file without its end", "download it again") from None
    with archive:
        entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Mistake.at(path, "a zip file, but not one of PyTorch", "unpack it, or give the .pth inside it")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}constants.pkl" in entries:
            raise Mistake.at(path, "a TorchScript program, not weights", SAVE_AGAIN)
        packed = [name for name, info in entries.items() if info.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise Mistake.at(path, f"entry {packed[0]} is compressed and cannot be mapped", SAVE_AGAIN)
        try:
            data = archive.read(pickles[0])
            swapped = f"{root}byteorder" in entries and archive.read(f"{root}byteorder") == b"big"
        except (zipfile.BadZipFile, RuntimeError, EOFError, OSError) as error:  # OSError: a place before the file
            raise Mistake.at(path, f"its index cannot be read ({error})", DAMAGED) from None
        spans = {name.removeprefix(f"{root}data/"): _span(path, info) for name, info in entries.items()}
    return _unpickle(path, data), lambda tensor: _lazy(path, tensor, spans, swapped)


def _span(path: Path, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Where an entry's bytes start in the file, and how many they are."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise Mistake.at(path, f"entry {info.filename} is not where the archive's index says", DAMAGED)
    start = info.header_offset + 30 + sum(struct.unpack("<2H", header[26:]))
    if start + info.file_size > path.stat().st_size:
        raise Mistake.at(path, f"truncated: entry {info.filename} ends after the file", "download it again")
    return start, info.file_size


def _lazy(path: Path, tensor: Tensor, spans: dict[str, tuple[int, int]], swapped: bool) -> LazyTensor:
    itemsize = tensor.dtype.itemsize
    start, size = spans.get(tensor.entry, (0, -1))
    if size < 0 or tensor.stop * itemsize > size:
        raise Mistake.at(path, f"a tensor reaches beyond its storage {tensor.entry}", DAMAGED)

    def read() -> np.ndarray:
        if 0 in tensor.shape:
            return np.empty(tensor.shape, tensor.dtype)
        storage = mapped(path, np.dtype(np.uint8), start, size)
        strides = tuple(s * itemsize for s in tensor.strides)
        view = np.ndarray(tensor.shape, tensor.dtype, storage, tensor.offset * itemsize, strides)
        return view.byteswap() if swapped else view

    return LazyTensor(tensor.shape, tensor.dtype, read)


class _Refused(Exception):
    """The pickle asks for something that is neither a tensor nor a plain container."""


class _Dict(dict):
    """Stands for OrderedDict; what else was attached to the original (`_metadata`) is dropped."""

    def __setstate__(self, state):
        pass


@dataclass(frozen=True, slots=True)
class _Name:
    """Stands for a function or type of torch; the pickle can call it where it may be called, and not alter it."""

    value: Any
    call: Callable[..., Any] | None = None

    def __call__(self, *args):
        if self.call is None:
            raise _Refused(f"a call of {self.value}")
        return self.call(*args)

    def __setstate__(self, state):
        raise _Refused(f"a change of {self.value}")


class _Storage(NamedTuple):
    entry: str
    dtype: np.dtype[Any] | None
    """None: bytes of any dtype."""


def _tensor_v2(storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None):
    return _tensor(storage, storage.dtype, offset, shape, strides, metadata)


def _tensor_v3(storage, offset, shape, strides, requires_grad, hooks, dtype, metadata=None):
    return _tensor(storage, dtype.value, offset, shape, strides, metadata)


def _tensor(storage, dtype, offset, shape, strides, metadata):
    if metadata:
        raise _Refused(f"a tensor with {', '.join(map(str, metadata))} set")  # lazily conjugated or negated
    numbers = (offset, *shape, *strides)
    well_formed = isinstance(storage, _Storage) and isinstance(dtype, np.dtype) and len(shape) == len(strides)
    if not well_formed or not all(map(is_count, numbers)):
        raise Mistake("a malformed tensor")
    if math.prod(n for n in shape if n) >= 2**62:
        raise Mistake("a tensor of impossible size")
    return Tensor(storage.entry, dtype, offset, tuple(shape), tuple(strides))


ADMITTED = {
    ("collections", "OrderedDict"): _Dict,
    ("torch", "Size"): _Name("torch.Size", tuple),
    ("torch._utils", "_rebuild_tensor_v2"): _Name("_rebuild_tensor_v2", _tensor_v2),
    ("torch._utils", "_rebuild_tensor_v3"): _Name("_rebuild_tensor_v3", _tensor_v3),
    ("torch._utils", "_rebuild_parameter"): _Name("_rebuild_parameter", lambda data, *rest: data),
    ("torch._utils", "_rebuild_parameter_with_state"): _Name("_rebuild_parameter", lambda data, *rest: data),
    ("torch.storage", "UntypedStorage"): _Name(None),
    **{("torch", name): _Name(DTYPES[dtype]) for name, dtype in STORAGES.items()},
    **{("torch", name): _Name(dtype) for name, dtype in DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in ADMITTED:
            raise _Refused(f"{module}.{name}")
        return ADMITTED[module, name]

    def persistent_load(self, pid):
        kind, tag, entry, _, count = pid
        if kind != "storage" or not isinstance(tag, _Name) or not isinstance(entry, str) or not is_count(count):
            raise Mistake("a malformed storage")
        return _Storage(entry, tag.value)


def _unpickle(path: Path, data: bytes) -> Any:
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(data):
                raise Mistake("a memo index beyond its end")  # the unpickler would fill memory up to that index
        return _Unpickler(io.BytesIO(data)).load()
    except _Refused as refused:
        what = f"it holds {refused}, which is neither a tensor nor a plain container; nothing was run"
        raise Mistake.at(path, what, SAVE_AGAIN) from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise Mistake.at(path, f"its pickle cannot be read ({type(error).__name__}: {error})", DAMAGED) from None
