"""How a result came about: `conversion.json` beside it, and the progress bar while it is made."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.directory import part_file
from stableavatar_jax.weights.formats.tensors import LazyTensor
from stableavatar_jax.whole import whole

FILE = "conversion.json"


@contextlib.contextmanager
def recorded(
    folder: Path, result: str, sources: Sequence[Path], tensors: Mapping[str, LazyTensor], **facts: Any
) -> Iterator[Callable[[int], None]]:
    """Gives a function that moves the progress bar by bytes; then `folder/conversion.json` has an entry for `result`.

    The entry says when it was made, in how many seconds, from which files (their SHA-256 is taken meanwhile, in a
    thread of its own) and the `facts`. A failure leaves no entry.
    """
    start = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        hashes = pool.map(_hash, sources)
        total = sum(tensor.nbytes for tensor in tensors.values())
        try:
            with tqdm(total=total, desc=result, unit="B", unit_scale=True, disable=None) as bar:
                yield bar.update
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        files = [
            {"file": str(path), "bytes": path.stat().st_size, "sha256": sha}
            for path, sha in zip(sources, hashes, strict=True)
        ]
    entry = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(time.monotonic() - start, 1)}
    held = read_record(folder) | {result: entry | facts | {"from": files}}
    with whole(folder / FILE) as partial:
        partial.write_text(json.dumps(held, indent=2, allow_nan=False) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """{result: how it came about} of a folder; empty where nothing is written down."""
    file = folder / FILE
    try:
        held = json.loads(file.read_text()) if file.exists() else {}
    except (OSError, ValueError, RecursionError):
        held = None
    if not isinstance(held, dict):
        raise Mistake.at(file, "no record of conversions (a JSON object)", "remove it")
    return held


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def part_files(folder: Path) -> list[Path]:
    """The files of the part `DIR/PART` of a model directory."""
    file = part_file(folder)
    return [file] if file else sorted(path for path in folder.rglob("*") if path.is_file())
