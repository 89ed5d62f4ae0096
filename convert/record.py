"""How a result came about: `conversion.json` beside it, and the progress bar while it is made."""

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stableavatar_jax.errors import Mistake
from stableavatar_jax.weights.directory import part_file
from stableavatar_jax.weights.formats.tensors import LazyTensor, mapped
from stableavatar_jax.whole import whole

FILE = "conversion.json"
STEP = 1 << 26  # bytes hashed at a time: between two steps the thread may wait 5 ms for others that run Python code
Sources = Future[list[dict[str, Any]]]


@contextlib.contextmanager
def hashed(files: Sequence[Path]) -> Iterator[Sources]:
    """Gives what `recorded` takes: name, bytes and SHA-256 of the files, which a thread reads while the work goes on.

    Where the work fails, the thread ends too.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(lambda: [_described(path, stop) for path in files])
        finally:
            stop.set()


@contextlib.contextmanager
def recorded(
    folder: Path, result: str, sources: Sources, tensors: Mapping[str, LazyTensor], **facts: Any
) -> Iterator[Callable[[int], None]]:
    """Gives a function that moves the progress bar by bytes; then `folder/conversion.json` has an entry for `result`.

    The entry says when it was made, in how many seconds, from which files and the `facts`. A failure leaves no entry.
    """
    start = time.monotonic()
    total = sum(tensor.nbytes for tensor in tensors.values())
    with tqdm(total=total, desc=result, unit="B", unit_scale=True, disable=None) as bar:
        yield bar.update
    files = sources.result()
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


def _described(path: Path, stop: threading.Event) -> dict[str, Any]:
    size, sha = path.stat().st_size, hashlib.sha256()
    for start in range(0, size, STEP):
        if stop.is_set():
            raise CancelledError
        sha.update(mapped(path, np.dtype(np.uint8), start, min(STEP, size - start)).data)
    return {"file": str(path), "bytes": size, "sha256": sha.hexdigest()}


def part_files(folder: Path) -> list[Path]:
    """The files of the part `DIR/PART` of a model directory."""
    file = part_file(folder)
    return [file] if file else sorted(path for path in folder.rglob("*") if path.is_file())
