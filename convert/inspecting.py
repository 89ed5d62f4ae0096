"""Looking at weights: what a file holds, and whether a model directory is whole."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stableavatar_jax.checkpoint import check_params, iterate_params
from stableavatar_jax.config import read_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.weights.formats.files import open_tensors

from . import parts
from .importing import TOKENIZER


def describe(source: Path, key: str | None = None) -> Iterator[str]:
    """Lines: name, shape and dtype of every tensor of a file or folder, then the totals and the likely part."""
    tensors = open_tensors(source, key)
    width = max(map(len, tensors))
    for name, tensor in tensors.items():
        yield f"{name:{width}}  {str(tensor.dtype):14} {'x'.join(map(str, tensor.shape)) or 'scalar'}"
    count, size = sum(t.size for t in tensors.values()), sum(t.nbytes for t in tensors.values())
    yield f"{len(tensors)} tensors, {count / 1e6:,.1f} M values, {size / 1e9:.2f} GB"
    guess = parts.guess(set(tensors), AvatarConfig())
    if guess is None:
        yield "it looks like no part of the avatar: none of its names is known"
    else:
        yield f"it looks like {guess.name} ({guess.count} of its names are known, as in {guess.naming})"


def verify(folder: Path) -> Iterator[tuple[bool, str]]:
    """For every part of a model directory: whether it is whole, and one line about it.

    A part is whole if its tree is that of the directory's config.json and all its values are finite. One parameter is
    in memory at a time. Raises Mistake where config.json is missing or malformed.
    """
    avatar = read_config(folder, AvatarConfig)
    for name in parts.NAMES:
        try:
            check_params(folder / name, parts.part(name, avatar).abstract)
            yield _verify_values(folder, name)
        except Mistake as error:
            yield False, str(error)
    if avatar.tokenizer == "file" and not (folder / TOKENIZER).is_file():
        yield False, f"{folder / TOKENIZER}: no such file; copy UMT5's there, prompts need it"


def _verify_values(folder: Path, name: str) -> tuple[bool, str]:
    count, size, bad = 0, 0, []
    for path, array in iterate_params(folder / name):
        count, size = count + array.size, size + array.nbytes
        if not _finite(array):
            bad.append(path)
    if bad:
        listed = ", ".join(bad[:4]) + (f" and {len(bad) - 4} more" if len(bad) > 4 else "")
        return False, f"{folder / name}: not finite: {listed}; import it again with --overwrite"
    return True, f"{folder / name}: {count / 1e6:,.1f} M parameters, {size / 1e9:.2f} GB, all finite"


def _finite(array: np.ndarray) -> bool:
    """Looked at in pieces: a mask of a whole stacked parameter would be gigabytes."""
    flat = array.reshape(-1)
    step = 1 << 24
    return all(bool(np.isfinite(flat[i : i + step]).all()) for i in range(0, flat.size, step))
