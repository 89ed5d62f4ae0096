"""Finding the parts of the avatar in a folder of released files."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.formats.files import BESIDE, open_tensors

from . import parts
from .options import PARTS, PartName

SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")  # where a folder holds one part twice, the earlier counts
DEEPEST = 3  # folders below the release's


def find_parts(
    release: Path, known: Mapping[str, Any] | None = None, settled: Collection[PartName] = ()
) -> dict[PartName, Path]:
    """{part: its file or folder of shards}, recognised by tensor names; other files are passed over.

    StableAvatar's transformer counts before a plain backbone, and safetensors before PyTorch's format in one folder.
    Sizes are those of the `known` models. Raises Mistake where two files hold one part, unless that is `settled`.
    """
    found: dict[PartName, list[tuple[int, Path]]] = {}
    for place in sorted(_candidates(release, DEEPEST)):
        try:
            tensors = open_tensors(place)
        except Mistake:
            continue  # other files of a release: tokenizers' caches, programs, tables
        like = parts.nearest(tensors, known)
        if like and len(like.missing) < like.known:
            found.setdefault(like.part.name, []).append((len(like.naming.fresh), place))
    chosen: dict[PartName, Path] = {}
    for name in PARTS:
        if name in found:
            least = min(fresh for fresh, _ in found[name])
            places = _best_of_each_folder(place for fresh, place in found[name] if fresh == least)
            if len(places) > 1 and name not in settled:
                listed = " and ".join(map(str, places))
                first = f"import one of them, such as --part {name} --source {places[0]}"
                raise Mistake.at(release, f"{listed} hold {name}", f"{first}, then the rest by this command again")
            chosen[name] = places[0]
    return chosen


def find_tokenizer_in(release: Path) -> Path | None:
    """UMT5's tokenizer.json in a folder of released files: in a folder named after it, or `tokenizer`."""
    found = sorted(release.glob("**/tokenizer.json"), key=lambda path: len(path.parts))
    return next(
        (path for path in found if "umt5" in str(path.relative_to(release)) or path.parent.name == "tokenizer"), None
    )


def _candidates(folder: Path, depth: int) -> Iterator[Path]:
    """Weight files, and folders whose shards are one set of weights."""
    if not folder.is_dir():
        raise Mistake.at(folder, "no such folder", "give the folder of the released files, or --part with one file")
    names = [path for path in folder.iterdir() if not path.name.startswith(".")]
    files = [path for path in names if path.is_file() and path.suffix in SUFFIXES]
    held = [path.name for path in names]
    if BESIDE in held:  # our own export for diffusers: the folder is one transformer
        yield folder
        files = []
    elif any(name.endswith(".index.json") for name in held) or any("-of-" in path.stem for path in files):
        yield folder
        files = [path for path in files if "-of-" not in path.stem]
    yield from files
    if depth:
        for path in names:
            if path.is_dir():
                yield from _candidates(path, depth - 1)


def _best_of_each_folder(places: Iterable[Path]) -> list[Path]:
    """Of the files in one folder those of the earliest suffix; shards count before single files."""
    folders: dict[Path, dict[int, list[Path]]] = {}
    for place in places:
        folder, rank = (place, -1) if place.is_dir() else (place.parent, SUFFIXES.index(place.suffix))
        folders.setdefault(folder, {}).setdefault(rank, []).append(place)
    return [place for ranks in folders.values() for place in ranks[min(ranks)]]
