"""The safetensors format: 8 bytes with the header's length, a JSON header, then the tensors' bytes.

The format's own library hands no float8 to NumPy and reads rather than maps, so the header is read here.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.formats.tensors import LazyTensor, is_count, mapped, pieces_of

DTYPES = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16, "U32": np.uint32,
    "I32": np.int32, "U64": np.uint64, "I64": np.int64, "F16": np.float16, "F32": np.float32, "F64": np.float64,
    "BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu, "C64": np.complex64,
}  # fmt: skip
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
LONGEST_HEADER = 100_000_000  # the format's own limit
Row = tuple[str, int | None, np.ndarray]  # a tensor's name, an index on its first axis, and the values there; None: all
DAMAGED = "the file is damaged, download it again"


def looks_like(start: bytes) -> bool:
    """Whether a file's first bytes are those of a safetensors file."""
    return len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= LONGEST_HEADER


def open_safetensors(path: Path) -> dict[str, LazyTensor]:
    """Every tensor of a safetensors file by name; raises Mistake where the header does not fit the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        if start > size:
            raise Mistake.at(path, f"truncated: header to byte {start}, file to {size}", "download it again")
        try:
            header = json.loads(file.read(start - 8), object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise Mistake.at(path, f"its header is not valid JSON ({error})", DAMAGED) from None
    if not isinstance(header, dict):
        raise Mistake.at(path, "its header is not a JSON object", DAMAGED)
    header.pop("__metadata__", None)
    spans = sorted((*_entry(path, name, entry)[2], name) for name, entry in header.items())
    end = 0
    for first, last, name in spans:
        if first != end:
            raise Mistake.at(path, f"tensor {name} starts at byte {first} where {end} is due", DAMAGED)
        end = last
    if start + end != size:
        what = "truncated" if start + end > size else "too long"
        found = f"{what}: its tensors end at byte {start + end}, the file at {size}"
        raise Mistake.at(path, found, "download it again")
    return {name: _lazy(path, start, *_entry(path, name, entry)) for name, entry in header.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """The texts that a safetensors file holds beside its tensors; empty where it has none."""
    with path.open("rb") as file:
        held = json.loads(file.read(int.from_bytes(file.read(8), "little"))).get("__metadata__")
    return {str(key): str(value) for key, value in held.items()} if isinstance(held, dict) else {}


def write_safetensors(
    path: Path,
    tensors: Mapping[str, LazyTensor],
    metadata: Mapping[str, str] | None = None,
    tell: Callable[[int], None] = lambda size: None,
) -> None:
    """Write a file, one piece of a tensor in memory at a time; `tell` is called with the number of bytes written.

    Tensors lie in the order given, from a byte that 8 divides on, as the format asks.
    """
    start, _ = _header(path, tensors, metadata)
    with path.open("wb") as file:
        file.write(start)
        for piece in pieces_of(tensors.values()):
            file.write(piece.reshape(-1).view(np.uint8).data)
            tell(piece.nbytes)


def write_rows(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: Any, values: Iterable[Row]) -> None:
    """Write a file of values that come in any order, each at once to its place: so a model is made layer by layer.

    All values must come.
    """
    dtype = np.dtype(dtype)
    tensors = {name: LazyTensor(shape, dtype, lambda: np.empty(0)) for name, shape in shapes.items()}
    start, places = _header(path, tensors, None)
    written = 0
    with path.open("wb") as file:
        file.write(start)
        for name, index, value in values:
            dense = np.ascontiguousarray(value, dtype)
            file.seek(len(start) + places[name] + (index or 0) * dense.nbytes)
            file.write(dense.reshape(-1).view(np.uint8).data)
            written += dense.nbytes
    assert written == sum(tensor.nbytes for tensor in tensors.values()), "values are missing"


def _header(
    path: Path, tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str] | None
) -> tuple[bytes, dict[str, int]]:
    """What a file begins with, and the byte after it at which each tensor lies."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    places, end = {}, 0
    for name, tensor in tensors.items():
        if tensor.dtype not in NAMES:
            raise Mistake(f"{path}: tensor {name} is {tensor.dtype}, which safetensors files do not hold")
        places[name], end = end, end + tensor.nbytes
        span = [places[name], end]
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": span}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, places


def _entry(path: Path, name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], tuple[int, int]]:
    """A header entry's dtype, shape and byte range, all checked against one another."""
    try:
        dtype_name, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        well_formed = all(map(is_count, (*shape, first, last))) and isinstance(dtype_name, str)
    except (TypeError, KeyError, ValueError):
        well_formed = False
    if not well_formed:
        raise Mistake.at(path, f"the header's entry of tensor {name} is malformed", DAMAGED)
    if dtype_name not in DTYPES:
        raise Mistake.at(path, f"tensor {name} has the unknown dtype {dtype_name}", f"known are {', '.join(DTYPES)}")
    dtype = np.dtype(DTYPES[dtype_name])
    if last - first != math.prod(shape) * dtype.itemsize:
        raise Mistake.at(path, f"tensor {name} of shape {shape} {dtype} has {last - first} bytes", DAMAGED)
    return dtype, shape, (first, last)


def _lazy(path: Path, start: int, dtype: np.dtype[Any], shape: tuple[int, ...], span: tuple[int, int]) -> LazyTensor:
    return LazyTensor(shape, dtype, lambda: mapped(path, dtype, start + span[0], math.prod(shape)).reshape(shape))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without repeated names, which JSON readers would settle silently."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Mistake("a name appears twice in it")
    return found
