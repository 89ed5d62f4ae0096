"""Looking at weights: what a file holds, and whether a model directory is whole."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.checkpoint import check_params
from stableavatar_jax.config import FILE, read_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import load_preset
from stableavatar_jax.weights.directory import has_part, open_part
from stableavatar_jax.weights.formats.files import open_tensors, unwrapped, weight_files
from stableavatar_jax.weights.formats.tensors import LazyTensor
from stableavatar_jax.weights.lora import read_lora
from stableavatar_jax.weights.names.lora import family_of, is_lora
from stableavatar_jax.weights.scaled import rescaled
from stableavatar_jax.words import count as counted

from . import parts
from .importing import TOKENIZER
from .options import PARTS

SHOWN = 8  # names of a list that are written out


def is_model(path: Path) -> bool:
    """Whether a path is a model directory with some part in it."""
    return (path / FILE).is_file() and any(has_part(path / name) for name in PARTS)


def describe(source: Path, key: str | None = None, names: bool = False, preset: Path | None = None) -> Iterator[str]:
    """Lines about a weight file, a folder of shards or a model directory; headers are read, no tensor is.

    What it is (part, nearest known model, names), how large, and what it lacks or has too much; with `names` every
    tensor's name, dtype and shape first. With a `preset` its model is the one that the weights are held against.
    """
    if is_model(source):
        for name in PARTS:
            if has_part(source / name):
                tensors = open_part(source / name)
                yield from _list(tensors) if names else ()
                yield f"{source / name}: {_totals(tensors)}"
        return
    raw = open_tensors(source, key, unwrap=False)
    yield from _list(raw) if names else ()
    on_disk = sum(file.stat().st_size for file in weight_files(source))
    yield f"{source}: {on_disk / 1e9:.2f} GB on disk, {_totals(raw)}"
    known = {str(preset): load_preset(preset, AvatarConfig)} if preset else parts.KNOWN
    yield from _lora(source, raw) if is_lora(raw) else _identity(rescaled(unwrapped(raw)), known)


def _lora(source: Path, tensors: Mapping[str, LazyTensor]) -> Iterator[str]:
    """The family of a LoRA, its ranks, and what of it does not fit. Thin factors are read."""
    yield f"it looks like a LoRA, names of {family_of(list(tensors))}"
    try:
        lora = read_lora(source)
    except Mistake as error:
        yield f"it cannot be applied: {error}"
        return
    ranks = Counter(lora.ranks.values()).most_common()
    yield f"{counted(len(lora.ranks), 'module')} of rank " + ", ".join(f"{rank} ({number})" for rank, number in ranks)
    yield from (f"skipped: {line}" for line in lora.skipped)


def _identity(tensors: Mapping[str, LazyTensor], known: Mapping[str, Any]) -> Iterator[str]:
    """Which part and model the tensors are, and where they differ from it."""
    like = parts.nearest(tensors, known)
    if like is None or like.known < len(tensors) / 10:
        yield "it looks like no part of the avatar: hardly any of its names is known"
        return
    yield f"it looks like {like.part.name}, names of {like.naming.name}, nearest to the {like.model} model"
    fits = f"{like.known} of its {len(tensors)} names are known"
    yield f"{fits}; every tensor fits" if not like.faults else fits
    for what, listed in (("missing", like.missing), ("unknown", like.unknown), ("of another shape", like.misshapen)):
        if listed:
            more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
            yield f"{what}: {', '.join(sorted(listed)[:SHOWN])}{more}"


def _list(tensors: Mapping[str, LazyTensor]) -> Iterator[str]:
    width = max(map(len, tensors))
    for name, tensor in tensors.items():
        yield f"{name:{width}}  {str(tensor.dtype):14} {'x'.join(map(str, tensor.shape)) or 'scalar'}"


def _totals(tensors: Mapping[str, LazyTensor]) -> str:
    count, size = sum(x.size for x in tensors.values()), sum(x.nbytes for x in tensors.values())
    dtypes = Counter(str(x.dtype) for x in tensors.values())
    kinds = ", ".join(f"{dtype} ({number})" for dtype, number in dtypes.most_common())
    return f"{len(tensors)} tensors, {count / 1e6:,.1f} M values, {size / 1e9:.2f} GB: {kinds}"


def verify(folder: Path) -> Iterator[tuple[bool, str]]:
    """For every part of a model directory: whether it is whole, and one line about it.

    A part is whole if its tree is that of the directory's config.json and all its values are finite. One piece of a
    parameter is in memory at a time. Raises Mistake where config.json is missing or malformed.
    """
    model = read_config(folder, AvatarConfig)
    for name in PARTS:
        try:
            check_params(folder / name, parts.part(name, model).abstract)
            yield _verify_values(folder / name)
        except Mistake as error:
            yield False, str(error)
    if model.tokenizer == "file" and not (folder / TOKENIZER).is_file():
        yield False, f"{folder / TOKENIZER}: no such file; copy UMT5's there, prompts need it"


def _verify_values(folder: Path) -> tuple[bool, str]:
    tensors = open_part(folder)
    bad = [path for path, x in tensors.items() if not all(np.isfinite(piece).all() for piece in x.pieces())]
    if bad:
        listed = ", ".join(bad[:4]) + (f" and {len(bad) - 4} more" if len(bad) > 4 else "")
        return False, f"{folder}: not finite: {listed}; import it again with --overwrite"
    return True, f"{folder}: {_totals(tensors)}, all finite"
