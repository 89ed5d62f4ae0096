"""What is taken of a file's sound: one of its tracks, from a moment on, for a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.audio import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Float
from stableavatar_jax.words import count


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """What is taken of a file's sound; by default all of its default track."""

    track: int | None = None
    """Number of the sound track, from 1."""
    start: float = 0.0
    """Seconds that are passed over."""
    duration: float | None = None
    """Seconds that are taken; what the sound has of them, where it ends earlier."""


def track_number(path: Path, container: InputContainer, wanted: int | None) -> int:
    """The number of the sound track that is taken: the one that is wanted, otherwise the file's default.

    Raises Mistake where the file has no such track, with those that it has.
    """
    tracks = container.streams.audio
    if not tracks:
        raise Mistake(f"{path}: the file has no sound; give a recording, or a video with a sound track")
    if wanted is None:
        marked = [number for number, track in enumerate(tracks, 1) if track.disposition & Disposition.default]
        return (marked or [1])[0]
    if not 1 <= wanted <= len(tracks):
        listed = ", ".join(f"{number} ({_described(track)})" for number, track in enumerate(tracks, 1))
        raise Mistake(f"{path}: sound track {wanted} is not there; the file has {listed}")
    return wanted


def _described(track: AudioStream) -> str:
    about = [track.metadata.get("language"), track.metadata.get("title"), track.codec_context.name]
    return ", ".join(filter(None, [*about, count(track.channels, "channel")]))


def cut(
    path: Path, blocks: Iterator[Float[np.ndarray, "C _"]], rate: int, excerpt: Excerpt
) -> Iterator[Float[np.ndarray, "C _"]]:
    """The blocks of a sound of `rate` samples a second that lie in the excerpt; nothing is read after it.

    Raises Mistake where the sound ends before the excerpt begins.
    """
    first = round(excerpt.start * rate)
    last = None if excerpt.duration is None else first + round(excerpt.duration * rate)
    place = 0
    for block in blocks:
        yield block[:, max(0, first - place) : None if last is None else max(0, last - place)]
        place += block.shape[1]
        if last is not None and place >= last:
            return
    if first and place <= first:
        raise Mistake(
            f"{path}: its sound is {place / rate:.2f} s long, and nothing is left of it from {excerpt.start:g} s on; "
            "give an earlier start"
        )
