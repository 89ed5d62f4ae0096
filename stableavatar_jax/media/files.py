"""Opening media files, and the one error that says why a file was refused."""

import io
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from stableavatar_jax.errors import Mistake
from stableavatar_jax.inputs import check_file
from stableavatar_jax.media.tags import TAGGED_FORMATS, without_inner_tags

HEADS = (
    (rb"RIFF....WAVE", rb"(?:RIFF|RF64|BW64)....WAVE(?:fmt |ds64|JUNK|bext)"),
    (rb"(?:RF64|BW64)....WAVE", rb"(?:RIFF|RF64|BW64)....WAVE(?:fmt |ds64|JUNK|bext)"),
    (rb"FORM....AIF", rb"FORM....AIF[FC](?:COMM|FVER)"),
    (rb"caff\x00\x01", rb"caff\x00\x01..desc"),
    (rb"riff\x2e\x91\xcf\x11", rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"),
    (rb"TTA1\x01\x00", rb"TTA1\x01\x00"),
    (rb"OggS\x00\x02.{8}(....)", rb"OggS\x00\x02.{8}%s"),  # chained streams are read, but for those of one number
    (rb"\x00\x00..ftyp", rb"\x00\x00\x00.ftyp[\w ]{4}"),
)
"""How files of some formats begin, and how a second one in them begins. FFmpeg reads the first and passes over the
others in silence; of what else is joined it reads all."""


@contextmanager
def open_media(path: Path, data: bytes | None = None) -> Iterator[InputContainer]:
    """A sound or video file, open for decoding. Raises Mistake where it is neither, or several joined into one.

    `data` is the file's content where that is in memory already; the path then only names it in errors. Tags between
    joined MP3 files are passed over.
    """
    try:
        if data is None:
            check_file(path)
            _check_joined(path)
        # "file:" because FFmpeg takes what stands before a colon for a protocol, and 10:15.wav is a file.
        container = _open(f"file:{path}" if data is None else io.BytesIO(data))
        if container.format.name in TAGGED_FORMATS:
            content = path.read_bytes() if data is None else data
            if (cleaned := without_inner_tags(content)) != content:
                container.close()
                container = _open(io.BytesIO(cleaned))
    except (av.error.FFmpegError, OSError) as error:
        raise Mistake(
            f"{path}: cannot be opened as sound or video ({error.strerror}): it is cut off, damaged or something else; "
            "copy or export it again"
        ) from error
    with container:
        yield container


def _open(source: Any) -> InputContainer:
    return av.open(source, "r", metadata_errors="replace")  # titles of old songs are in any encoding


def _check_joined(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(32)
        begins = [(match, again) for first, again in HEADS if (match := re.match(first, head, re.DOTALL))]
        if not begins:
            return
        match, again = begins[0]
        again %= tuple(re.escape(group) for group in match.groups())
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = re.compile(again, re.DOTALL).search(content, len(head))
            place = found.start() if found else None
            del found
    if place is not None:
        raise Mistake(
            f"{path}: several files joined into one (the second begins at byte {place}), of which players show the "
            "first alone; join them with a program that knows the format",
            "joined files",
        )
