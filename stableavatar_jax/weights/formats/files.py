"""Weight files as mappings from tensor name to a tensor that is still on disk.

A file's format is recognised by its first bytes, not by its name: PyTorch's zip format (.pth, .pt, .bin) or
safetensors; a folder holds shards of either. Nothing is read until a tensor is asked for, and then that tensor alone.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.formats.pth import SAVE_AGAIN, Tensor, read_pth
from stableavatar_jax.weights.formats.safetensors import looks_like, open_safetensors
from stableavatar_jax.weights.formats.tensors import LazyTensor

BESIDE = "stableavatar_audio.safetensors"  # in a folder for diffusers: the tensors that diffusers has no place for
WRAPPERS = ("module.", "model.diffusion_model.", "diffusion_model.", "model.")

# What people hand over by mistake: the file's first bytes, what it is, and what to do.
MISTAKEN = (
    (b"GGUF", "a GGUF file, whose weights are rounded to few bits", "give the .safetensors or .pth they came from"),
    (b"version https://git-lfs", "a git-lfs pointer, not the weights", "fetch the file itself: git lfs pull"),
    (b"<", "a web page, not weights", "download the file itself (the link behind the download button)"),
    (b"\x80", "PyTorch's format from before 1.6 (or another pickle)", SAVE_AGAIN + " with a newer PyTorch"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and give the weight file inside"),
    (b"\x89HDF", "an HDF5 file", "give the PyTorch or safetensors file"),
    (b"{", "a JSON file", "give the weight file, or the folder where the shards lie"),
)


def open_tensors(path: Path | str, key: str | None = None, *, unwrap: bool = True) -> dict[str, LazyTensor]:
    """The tensors of a weight file, or of a folder of shards, by name.

    A PyTorch file may hold more than weights. One rule finds them: the saved dict is taken if tensors stand in it,
    else the one dict of tensors below it (`state_dict`, `model`, `ema/shadow`, ...); with several such dicts `key`
    says which. What wrappers put before every name (`module.`, `model.diffusion_model.`, ...) is dropped if
    `unwrap`. Raises Mistake for anything that is not weights, is damaged, or is ambiguous.
    """
    path = Path(path)
    if not path.exists():
        raise Mistake.at(path, "no such file or folder", "check the path")
    tensors = _open_folder(path, key) if path.is_dir() else _open_file(path, key)
    return unwrapped(tensors) if unwrap else tensors


def weight_files(path: Path) -> list[Path]:
    """The files that `open_tensors` reads: the file itself, or a folder's shards."""
    if not path.is_dir():
        return [path]
    index = _index(path)
    return _shards_of(path, _read_index(index)) if index else _shards(path)


def unwrapped(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The tensors without what wrappers put before every name, and without torch.compile's `_orig_mod.` anywhere."""
    found = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    if len(found) != len(tensors):  # with and without it
        found = dict(tensors)
    while prefix := next((each for each in WRAPPERS if all(name.startswith(each) for name in found)), None):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def _open_file(path: Path, key: str | None) -> dict[str, LazyTensor]:
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise Mistake.at(path, "an empty file", "download it again")
    if looks_like(start):
        tensors = open_safetensors(path)
        if not tensors:
            raise Mistake.at(path, "it holds no tensors", "check that it is the right file")
        return tensors
    if start[:2] == b"PK":
        saved, lazy = read_pth(path)
        return {name: lazy(tensor) for name, tensor in _weights(path, saved, key).items()}
    for magic, found, remedy in MISTAKEN:
        if start.lstrip().startswith(magic):
            raise Mistake.at(path, found, remedy)
    if start[8:10] == b'{"':
        long = int.from_bytes(start[:8], "little")
        raise Mistake.at(path, f"a safetensors header of {long} bytes, too long", "it is damaged, download it again")
    if start[257:262] == b"ustar":
        raise Mistake.at(path, "a tar archive", "unpack it and give the weight file inside")
    found = f"no weight file: it starts with {start[:8]!r}"
    raise Mistake.at(path, found, "give a .safetensors or a PyTorch .pth file")


def _weights(path: Path, saved: Any, key: str | None) -> dict[str, Tensor]:
    """The one dict of tensors in a saved object, by the rule of `open_tensors`."""
    found = _dicts_of_tensors(saved)
    if not found:
        raise Mistake.at(path, f"a saved {type(saved).__name__.strip('_').lower()} without tensors by name", SAVE_AGAIN)
    if key is None and len(found) > 1:
        places = ", ".join(f"{name or '(top)'} ({len(tensors)})" for name, tensors in found.items())
        largest = max(found, key=lambda name: len(found[name]))
        raise Mistake.at(path, f"several places hold tensors: {places}", f"say which, such as --key {largest!r}")
    if key is not None and key not in found:
        raise Mistake.at(path, f"no tensors at key {key!r}", f"there are some at {', '.join(map(repr, found))}")
    return next(iter(found.values())) if key is None else found[key]


def _dicts_of_tensors(value: Any, place: str = "", depth: int = 3) -> dict[str, dict[str, Tensor]]:
    """{place: dict of tensors by name} of a saved object; dicts inside dicts are places joined by "/"."""
    if not isinstance(value, dict):
        return {}
    named = {name: item for name, item in value.items() if isinstance(name, str)}
    here = {name: item for name, item in named.items() if isinstance(item, Tensor)}
    found = {place: here} if here else {}
    if depth:
        for name, item in named.items():
            found |= _dicts_of_tensors(item, f"{place}/{name}" if place else name, depth - 1)
    return found


def _open_folder(folder: Path, key: str | None) -> dict[str, LazyTensor]:
    """All shards of a folder as one: those its index names, else every file of the first suffix found."""
    index = _index(folder)
    places = _read_index(index) if index else {}
    shards = _shards_of(folder, places) if index else _shards(folder)
    tensors: dict[str, LazyTensor] = {}
    owner: dict[str, Path] = {}
    for shard in shards:
        if not shard.is_file():
            raise Mistake.at(shard, f"this shard is missing, {index and index.name} names it", "download it too")
        for name, tensor in _open_file(shard, key).items():
            if name in tensors:
                found = f"{owner[name].name} and {shard.name} both hold {name}"
                raise Mistake.at(folder, found, "give the one file instead of the folder")
            tensors[name], owner[name] = tensor, shard
    for name, place in places.items():
        if owner.get(name) != folder / place:
            found = f"tensor {name} is not in it, though {index and index.name} says so"
            raise Mistake.at(folder / place, found, "download both again")
    return tensors


def _shards_of(folder: Path, places: Mapping[str, str]) -> list[Path]:
    """The files that an index names, and what our own exports put beside those for what diffusers has no place for."""
    beside = folder / BESIDE
    return sorted({folder / name for name in places.values()} | ({beside} if beside.is_file() else set()))


def _index(folder: Path) -> Path | None:
    """The index of a folder's shards, where there is one."""
    found = sorted(folder.glob("*.safetensors.index.json")) or sorted(folder.glob("*.bin.index.json"))
    if len(found) > 1:
        what = f"it holds {len(found)} indexes: {', '.join(path.name for path in found)}"
        raise Mistake.at(folder, what, "give a folder with one model in it")
    return found[0] if found else None


def _read_index(path: Path) -> dict[str, str]:
    """{tensor name: shard's file name} of an index file; a shard lies beside its index."""
    try:
        places = json.loads(path.read_text())["weight_map"]
        plain = all(isinstance(place, str) and place == Path(place).name for place in places.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        plain = False
    if not plain or not places:
        raise Mistake.at(path, "no index of shards (an object with a weight_map of file names)", "download it again")
    return places


def _shards(folder: Path) -> list[Path]:
    """The weight files of a folder without an index; of numbered ones (-00001-of-00003) all must be there."""
    for pattern in ("*.safetensors", "*.bin", "*.pth", "*.pt"):
        shards = sorted(folder.glob(pattern))
        for shard in shards:
            if numbered := re.fullmatch(r"(.*-)(\d+)(-of-)(\d+)(\.\w+)", shard.name):
                head, digits, of, count, tail = numbered.groups()
                wanted = (f"{head}{i:0{len(digits)}}{of}{count}{tail}" for i in range(1, int(count) + 1))
                missing = [name for name in wanted if not (folder / name).is_file()]
                if missing:
                    found = f"{len(missing)} of {int(count)} shards are missing, {missing[0]} first"
                    raise Mistake.at(folder, found, "download them too")
        if shards:
            return shards
    raise Mistake.at(folder, "no weight files in this folder", "give the folder of the .safetensors or .pth file")
