"""Precomputed records: one training window each, encoded, so that a training step runs the transformer alone.

    DIR/records.json          fields with their dtypes, file format, and what the records were made from
    DIR/index-00000.jsonl     one line a record: file, row, id, kind, fps, shapes; a file for each writing process
    DIR/*.npz                 a record each, or
    DIR/*.array_record        many, each the bytes of such an .npz

A record's arrays are `FIELDS`. bfloat16 lies as uint16. A record exists when its line is in the index, which is
written after its file has its name.
"""

import contextlib
import errno
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from stableavatar_jax.data.kinds import CLIPS, RECORDS
from stableavatar_jax.data.order import Batch
from stableavatar_jax.errors import Mistake, explained
from stableavatar_jax.locks import alone
from stableavatar_jax.whole import check_folder, whole

META = RECORDS
GOES_ON = "make room; what is finished is kept, and the same command goes on from there"

FIELDS = {
    "latents_mean": "F h w 16: VAE posterior of the video, normalised",
    "latents_logvar": "F h w 16: its log variance, not normalised",
    "reference_mean": "F h w 16: posterior of the first frame followed by grey",
    "reference_logvar": "F h w 16: its log variance",
    "text": "L D: UMT5 features, 0 where padded",
    "text_mask": "L: bool, which are text",
    "image": "I D: CLIP tokens of the first frame",
    "audio": "A D: Wav2Vec2 features of the window's sound",
    "face_mask": "F h w: 0..1",
    "lip_mask": "F h w: 0..1",
}
"""The arrays of a record. The mask of given frames is the same for all and made in the step."""


def pack(record: Mapping[str, np.ndarray]) -> bytes:
    """A record as the bytes of an .npz file."""
    file = io.BytesIO()
    arrays: dict[str, Any] = {n: a.view(np.uint16) if a.dtype == ml_dtypes.bfloat16 else a for n, a in record.items()}
    np.savez(file, **arrays)
    return file.getvalue()


def unpack(data: bytes, dtypes: Mapping[str, str], name: str = "record") -> Batch:
    """The inverse of `pack`, given each field's dtype. Raises Mistake, with the name, where it is damaged."""
    try:
        with np.load(io.BytesIO(data)) as file:
            arrays = {field: file[field] for field in dtypes}
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError) as error:
        advice = "remove it and its line in the index, and precompute again"
        raise Mistake(f"{name}: the record is damaged ({error}); {advice}") from None
    return {field: a.view(ml_dtypes.bfloat16) if dtypes[field] == "bfloat16" else a for field, a in arrays.items()}


class RecordReader:
    """Records by number, in the order of their ids. A `Source` of batches: its buckets are the shapes."""

    def __init__(self, folder: Path):
        """Raises Mistake where the folder holds no records."""
        self.folder = folder
        self.meta = read_meta(folder)
        self.index = sorted(read_index(folder).values(), key=lambda line: line["id"])
        if not self.index:
            raise Mistake(f"{folder}: no records in it; `python -m stableavatar_jax.data precompute` makes them")
        self.dtypes: dict[str, str] = self.meta["dtypes"]
        self._shards: Any = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def buckets(self) -> list[tuple[Any, ...]]:
        """Field names and shapes of each record."""
        return [tuple((name, tuple(shape)) for name, shape in line["shapes"].items()) for line in self.index]

    def __getitem__(self, item: int) -> Batch:
        line = self.index[item]
        path = self.folder / line["file"]
        try:
            data = path.read_bytes() if self.meta["format"] == "npz" else self._row(line)
        except (OSError, IndexError, RuntimeError) as error:
            raise Mistake(f"{path}: record {line['id']} cannot be read ({error}); precompute it again") from None
        return unpack(data, self.dtypes, str(path))

    def read(self, item: int, rng: np.random.Generator) -> Batch:
        """The record; nothing in it is random."""
        return self[item]

    def _row(self, line: Mapping[str, Any]) -> bytes:
        if self._shards is None:
            from array_record.python.array_record_data_source import ArrayRecordDataSource

            files = sorted({line["file"] for line in self.index})
            sources = {name: ArrayRecordDataSource([str(self.folder / name)]) for name in files}
            self._shards = sources
        return self._shards[line["file"]][line["row"]]


class RecordWriter:
    """Writes records, leaving out those already there; several processes may write one folder, each with its number.

    >>> with RecordWriter(folder, meta) as writer:
    ...     writer.write(name, record, about)

    Where no record was written, no folder is left.
    """

    def __init__(self, folder: Path, meta: Mapping[str, Any], *, worker: int = 0, shard: int = 64):
        """`meta` must be that of the records already there; array_record files hold `shard` records."""
        self.folder, self.meta, self.worker, self.shard = folder, dict(meta), worker, shard
        check_folder(folder)
        self.done = set(read_index(folder))
        if self.done:
            _check_same(folder, read_meta(folder), self.meta)
        self._open: list[tuple[dict[str, Any], bytes]] = []
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> "RecordWriter":
        with explained(self.folder, GOES_ON):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._opened.callback(_remove_empty, self.folder)
        self._opened.enter_context(alone(self._index))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._opened:
            if kind is None:
                self.flush()

    @property
    def _index(self) -> Path:
        return self.folder / f"index-{self.worker:05d}.jsonl"

    def write(self, name: str, record: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        """Add a record; floats are cast to the data set's dtypes. Raises Mistake where the disk is full."""
        dtypes = {field: np.dtype(getattr(ml_dtypes, dtype, dtype)) for field, dtype in self.meta["dtypes"].items()}
        cast = {field: np.asarray(record[field]).astype(dtype) for field, dtype in dtypes.items()}
        if bad := [field for field, a in cast.items() if not np.isfinite(a.astype(np.float32)).all()]:
            raise Mistake(f"{name}: {bad[0]} is not finite in {self.meta['dtypes'][bad[0]]}; precompute with float32")
        line = {"id": name, **about, "shapes": {field: list(a.shape) for field, a in cast.items()}}
        self._open.append((line, pack(cast)))
        if self.meta["format"] == "npz" or len(self._open) >= self.shard:
            self.flush()

    def flush(self) -> None:
        """Give what is written its name and its lines in the index."""
        if not self._open:
            return
        lines = [line for line, _ in self._open]
        tag = f"{zlib.crc32(lines[0]['id'].encode()):08x}"
        stem = re.sub(r"[^\w.@-]+", "_", lines[0]["id"])[-80:]
        path = self.folder / f"{stem}-{tag}.{self.meta['format']}"
        begun = bool(read_index(self.folder))
        if begun:
            _check_same(self.folder, read_meta(self.folder), self.meta)
        with whole(path, advice=GOES_ON) as partial:
            self._write_file(partial, [data for _, data in self._open])
        if not begun:  # after the file: where that fails, nothing stays
            with whole(self.folder / META, advice=GOES_ON) as partial:
                partial.write_text(json.dumps(self.meta, indent=2) + "\n")
        # Begun with a newline, so that a line a crash has cut off does not swallow the next.
        rows = (json.dumps({"file": path.name, "row": row, **line}) for row, line in enumerate(lines))
        with explained(self._index, GOES_ON), self._index.open("a") as index:
            index.write("\n" + "".join(f"{row}\n" for row in rows))
        self.done |= {line["id"] for line in lines}
        self._open.clear()

    def _write_file(self, partial: Path, records: list[bytes]) -> None:
        if self.meta["format"] == "npz":
            partial.write_bytes(records[0])
            return
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(str(partial), "group_size:1")
        try:
            for data in records:
                writer.write(data)
            writer.close()
        except RuntimeError as error:  # it says nothing of the cause; a full disk is the usual one
            raise OSError(errno.ENOSPC, str(error)) from error


def read_meta(folder: Path) -> dict[str, Any]:
    """What all records of a folder have in common. Raises Mistake where it holds none."""
    path = folder / META
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        if (folder / CLIPS).exists():
            raise Mistake(
                f"{folder}: is a data set of clips, and no records; `python -m stableavatar_jax.data precompute --data "
                f"{folder}` makes records of it, and `train.py --clips` encodes it while training"
            ) from None
        raise Mistake(
            f"{path}: no such file; `python -m stableavatar_jax.data precompute --output {folder}` makes records"
        ) from None
    except ValueError as error:
        raise Mistake(f"{path}: not valid JSON ({error}); precompute the records again") from None


def read_index(folder: Path) -> dict[str, dict[str, Any]]:
    """{id: line} of every whole record; a line cut off by a crash is none."""
    lines = (line for path in sorted(folder.glob("index-*.jsonl")) for line in _lines(path))
    return {line["id"]: line for line in lines}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_text().split("\n"):
        try:
            yield json.loads(text)
        except ValueError:
            continue


def _check_same(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    plain = json.loads(json.dumps(new))
    for key in sorted(old.keys() | plain.keys()):
        found, wanted = old.get(key), plain.get(key)
        same_place = key == "weights" and found and Path(found).resolve() == Path(wanted).resolve()
        if found != wanted and not same_place:
            raise Mistake(
                f"{folder}: its records were made with {key} {found}, not {wanted}; use those options, or another "
                "folder"
            )


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it holds something
        folder.rmdir()
