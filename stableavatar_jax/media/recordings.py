"""A recording as 16 kHz sound that is read as it is needed, and as often as needed; it is never held whole."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from stableavatar_jax.errors import Mistake, explained
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.locks import hidden
from stableavatar_jax.media.excerpt import Excerpt
from stableavatar_jax.media.sound import ALL, Sound, mono, open_sound
from stableavatar_jax.shapes import Float

BLOCK = SAMPLE_RATE
"""Samples of a block: one second. It is the most; a live sound gives what is there."""
SAMPLE_BYTES = 2
HEADER = re.compile(rb"RIFF|RF64|BW64|FORM|caff|fLaC|OggS|ID3|\x1aE\xdf\xa3|.{4}ftyp", re.DOTALL)
"""How files begin that are no raw samples: WAV, AIFF, CAF, FLAC, Ogg, MP3, Matroska, MP4."""
HEADER_BYTES = 8
RAW = "ffmpeg -i FILE -f s16le -ar 16000 -ac 1 - | ..."

LOG = logging.getLogger(__name__)


@runtime_checkable
class Recording(Protocol):
    """Mono sound at 16 kHz, float32."""

    @property
    def samples(self) -> int | None:
        """How many samples it has; None while a live one has not ended."""

    def blocks(self) -> Iterator[Float[np.ndarray, "_"]]:
        """The sound from its beginning, a bounded number of samples at a time."""

    def open(self) -> AbstractContextManager[Sound]:
        """The sound for the video: where it has them, at another rate and with more channels."""


@runtime_checkable
class Stream(Protocol):
    """Where live sound comes from, such as `sys.stdin.buffer`."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes, none at the end."""


class Samples:
    """A recording in memory."""

    def __init__(self, samples: Float[np.ndarray, "S"]):
        self.sound = samples

    @property
    def samples(self) -> int:
        """How many samples it has."""
        return len(self.sound)

    def blocks(self) -> Iterator[Float[np.ndarray, "_"]]:
        """The sound from its beginning, second by second."""
        for start in range(0, len(self.sound), BLOCK):
            yield self.sound[start : start + BLOCK]

    def open(self) -> AbstractContextManager[Sound]:
        """The sound for the video."""
        return _as_it_is(self)


class SoundFile:
    """The recording of a sound or video file, or an excerpt of it, decoded every time that it is read."""

    def __init__(self, path: Path, data: bytes | None = None, excerpt: Excerpt = ALL):
        """Reads the file once, and keeps the number of its samples. `data` is its content where that is in memory.

        Raises Mistake, and logs notices, for all that `read_sound` does.
        """
        self.path, self.data, self.excerpt = path, data, excerpt
        self._samples = sum(map(len, mono(path, data=data, excerpt=excerpt, tell=data is None)))

    @property
    def samples(self) -> int:
        """How many samples it has."""
        return self._samples

    def blocks(self) -> Iterator[Float[np.ndarray, "_"]]:
        """The sound from its beginning. Raises Mistake where the file is no longer the one that was opened."""
        samples = 0
        for block in mono(self.path, data=self.data, excerpt=self.excerpt):
            samples += len(block)
            if samples > self._samples:
                break
            yield block
        if samples != self._samples:
            raise Mistake(f"{self.path}: the file was changed while it was read; start again")

    def open(self) -> AbstractContextManager[Sound]:
        """The sound as it is in the file (`open_sound`)."""
        return open_sound(self.path, self.data, self.excerpt)


class LiveSound:
    """A recording that comes while it is used: signed 16-bit little-endian mono 16 kHz samples, until the stream ends.

    What was read lies in the file `keep`, under its hidden name until the end was seen. A recording with the same
    `keep`, also in a later process, begins with what lies there, and then goes on with its own stream: where that
    repeats all of it, as the same command with the same file does, after the repetition; otherwise, as a microphone
    does, with all that comes. One that is whole reads no stream. Without `keep` the sound can be read once.
    """

    def __init__(self, stream: Stream, keep: Path | None):
        self._stream, self._keep = stream, keep
        self._samples: int | None = None
        self._read_bytes = 0
        self._begun = False
        self._rest = b""  # of the last read, less than a sample
        self._same: int | None = None  # bytes of an earlier stream that this one has repeated; None where it does not
        if keep is not None and keep.exists():
            self._read_bytes = keep.stat().st_size
            self._samples = self._read_bytes // SAMPLE_BYTES
        elif keep is not None and (part := hidden(keep)).exists():
            self._read_bytes = part.stat().st_size // SAMPLE_BYTES * SAMPLE_BYTES
            os.truncate(part, self._read_bytes)
            self._same = 0

    @property
    def samples(self) -> int | None:
        """How many samples it has; None while the stream has not ended."""
        return self._samples

    @property
    def read(self) -> int:
        """Samples that came so far."""
        return self._read_bytes // SAMPLE_BYTES

    def blocks(self) -> Iterator[Float[np.ndarray, "_"]]:
        """The sound from its beginning; a block is given as soon as it is there.

        Raises Mistake for a stream that is empty, or begins as a file with a header does; half a sample at the end
        is passed over with a notice.
        """
        if self._keep is None and self._begun:
            raise ValueError("a live sound that is not kept can be read once")
        for data in self._live() if self._keep is None else self._from_file(self._keep):
            yield np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)

    def open(self) -> AbstractContextManager[Sound]:
        """The sound for the video."""
        return _as_it_is(self)

    def _live(self) -> Iterator[bytes]:
        while data := self._next():
            self._read_bytes += len(data)
            yield data

    def _from_file(self, keep: Path) -> Iterator[bytes]:
        """All that is kept, and what comes when it has been kept."""
        place = 0
        while (data := self._kept(place)) or self._samples is None and (came := self._next()):
            place += len(data)
            if data:
                yield data
                continue
            with explained(keep), hidden(keep).open("ab") as file:
                for new in self._new(came):
                    file.write(new)
                    self._read_bytes += len(new)

    def _kept(self, place: int, size: int = BLOCK * SAMPLE_BYTES) -> bytes:
        """So many bytes of what is kept, from a place on."""
        assert self._keep
        file = hidden(self._keep) if self._samples is None else self._keep
        if not file.exists():
            return b""
        with file.open("rb") as kept:
            kept.seek(place)
            return kept.read(size)

    def _new(self, data: bytes) -> Iterator[bytes]:
        """What is new of the next bytes of the stream, and of earlier ones that looked like a repetition."""
        if self._same is not None:
            known = self._kept(self._same, len(data))
            if data.startswith(known):
                data, self._same = data[len(known) :], self._same + len(known)
                if not data and self._same < self._read_bytes:
                    return
            else:
                for place in range(0, self._same, BLOCK):
                    yield self._kept(place, min(BLOCK, self._same - place))
            self._same = None
        yield data

    def _next(self) -> bytes:
        """The next whole samples of the stream; none where it has ended."""
        take = getattr(self._stream, "read1", self._stream.read)  # what is there, and not only a full block
        data, enough = self._rest, SAMPLE_BYTES if self._begun else HEADER_BYTES
        while len(data) < enough and (more := take(BLOCK * SAMPLE_BYTES)):
            data += more
        if not self._begun and HEADER.match(data):
            raise Mistake(f"the live sound begins as a file with a header, raw samples are needed: {RAW}")
        self._begun = True
        length = len(data) // SAMPLE_BYTES * SAMPLE_BYTES
        data, self._rest = data[:length], data[length:]
        if not data:
            self._end()
        return data

    def _end(self) -> None:
        if not self._read_bytes:
            raise Mistake(f"the live sound ended before its first sample; give raw samples: {RAW}")
        if self._rest:
            LOG.warning("the live sound ended in the middle of a sample, which is left out: was it cut off?")
        if self._keep:
            with explained(self._keep):
                hidden(self._keep).replace(self._keep)
        self._samples = self._read_bytes // SAMPLE_BYTES


def _as_it_is(recording: Recording) -> AbstractContextManager[Sound]:
    return nullcontext(Sound(SAMPLE_RATE, 1, (block[None] for block in recording.blocks())))
