"""A video in closed segments: what was written of it stays, and is joined without encoding it again."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from av.container import InputContainer
from av.video import VideoStream

from stableavatar_jax.errors import Mistake, explained
from stableavatar_jax.media.files import open_media
from stableavatar_jax.media.sound import Sound
from stableavatar_jax.media.writer import SoundTrack, VideoWriter, frame_rate, open_mp4
from stableavatar_jax.shapes import UInt8
from stableavatar_jax.whole import whole

PLAYLIST = "playlist.m3u8"
AGAIN = "make the video again from its beginning (--restart)"


class Segments:
    """Writes a video as `segment-00000.mp4`, `segment-00001.mp4` and so on, each of a fixed number of frames.

    >>> with Segments(folder, fps=25, height=480, width=832, frames=128) as video:
    ...     for frames in decoded_from(video.closed * 128):
    ...         video.write(frames)
    ...     video.finish()
    >>> join(folder, path, sound=recording, fps=25)

    A segment takes its name when it is whole, and `playlist.m3u8` then lists it: players show what is there. What is
    left of an earlier run is gone on with after its last whole segment. Memory does not grow with the length.
    """

    def __init__(
        self, folder: Path, *, fps: int | float | Fraction, height: int, width: int, frames: int, crf: int = 18,
        preset: str = "medium",
    ):  # fmt: skip
        """`frames` is the length of a segment; the rest is as for `VideoWriter`."""
        self.folder, self.fps, self.frames = folder, frame_rate(fps), frames
        self.height, self.width, self.crf, self.preset = height, width, crf, preset
        self.closed = 0
        """Segments that are whole, those of an earlier run too."""
        self.last = frames
        """Frames of the last of them: fewer than `frames` only where the video is finished."""
        self._video: VideoWriter | None = None

    def __enter__(self) -> "Segments":
        with explained(self.folder):
            self.folder.mkdir(exist_ok=True)
            self._find()
        self._list()
        return self

    def write(self, frames: UInt8[np.ndarray, "T H W 3"]) -> None:
        """Append frames, uint8. Raises Mistake where they cannot be written; whole segments stay."""
        while len(frames):
            if self.last < self.frames:
                raise ValueError(f"{self.folder}: the video is finished, no frames can be appended")
            if self._video is None:
                self._video = self._open()
            room = self.frames - self._video.frames
            try:
                self._video.write(frames[:room])
            except BaseException as error:
                self._drop(error)
                raise
            if self._video.frames == self.frames:
                self._close()
            frames = frames[room:]

    def finish(self) -> None:
        """Close the last segment, which may be shorter."""
        if self._video is not None:
            self._close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop(error)

    def _open(self) -> VideoWriter:
        path = segment(self.folder, self.closed)
        return VideoWriter(
            path, fps=self.fps, height=self.height, width=self.width, crf=self.crf, preset=self.preset
        ).__enter__()

    def _close(self) -> None:
        video, self._video = self._video, None
        assert video
        video.__exit__(None, None, None)
        self.closed, self.last = self.closed + 1, video.frames
        self._list()

    def _drop(self, error: BaseException | None) -> None:
        """Remove the segment that is not whole."""
        video, self._video = self._video, None
        if video is not None:
            error = error or InterruptedError()
            video.__exit__(type(error), error, error.__traceback__)

    def _find(self) -> None:
        """Count the segments of an earlier run, from the first to the last that is whole; remove all else of it."""
        while self.last == self.frames and (found := self._length(segment(self.folder, self.closed))):
            self.closed, self.last = self.closed + 1, found
        kept = {segment(self.folder, number) for number in range(self.closed)}
        for path in self.folder.iterdir():
            if path not in kept and re.fullmatch(r"\.?segment-\d{5,}\.mp4(\..*)?", path.name):
                path.unlink()

    def _length(self, path: Path) -> int:
        """Frames of a segment, 0 where there is none, or none as this run writes them."""
        if not path.exists():
            return 0
        with contextlib.suppress(Mistake), _pictures(path) as (_, found):
            like = (found.height, found.width, found.average_rate) == (self.height, self.width, self.fps)
            return found.frames if like and found.frames <= self.frames else 0
        return 0

    def _list(self) -> None:
        lines = ["#EXTM3U"]
        for number in range(self.closed):
            frames = self.last if number == self.closed - 1 else self.frames
            lines += [f"#EXTINF:{float(frames / self.fps):.6f},", segment(self.folder, number).name]
        with whole(self.folder / PLAYLIST) as partial:
            partial.write_text("\n".join(lines) + "\n")


def segment(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"segment-{number:05d}.mp4"


def join(
    folder: Path,
    path: Path,
    *,
    sound: Path | Sound | None,
    fps: int | float | Fraction,
    inputs: Iterable[Path | None] = (),
) -> None:
    """Make one MP4 of a folder's segments, whole or not at all: their pictures as they are, and the sound as AAC.

    The sound is cut to the exact length of the frames, or followed by silence. `inputs` are files that may not be
    written over, besides the sound. Raises Mistake where a segment is missing or damaged.
    """
    rate, frames = frame_rate(fps), 0
    segments = _all(folder)
    space = sum(each.stat().st_size for each in segments)
    with open_mp4(path, sound, inputs=[*inputs, folder], space=space) as (file, heard), explained(path):
        with _pictures(segments[0]) as (_, first):
            pictures = file.add_stream_from_template(first)
            head = first.codec_context.extradata
        track = SoundTrack(file, heard) if heard else None
        for each in segments:
            with _pictures(each) as (opened, source):
                if source.codec_context.extradata != head:
                    raise Mistake(f"{each}: was encoded in another way than the segments before it; {AGAIN}")
                begin, due = round(frames / rate / Fraction(source.time_base or 1)), frames + source.frames
                for packet in opened.demux(source):
                    if packet.pts is None or packet.dts is None:
                        continue  # the end of the demuxer
                    packet.pts, packet.dts, packet.stream = packet.pts + begin, packet.dts + begin, pictures
                    file.mux(packet)
                    frames += 1
                    if track:  # sound keeps up with the pictures, so that neither waits in memory for the other
                        file.mux(track.encode(frames / rate))
                if frames != due:
                    raise Mistake(f"{each}: {due - frames} of its frames are missing; {AGAIN}")
        if track:
            file.mux(track.encode(frames / rate, last=True))


def _all(folder: Path) -> list[Path]:
    """The segments of a folder in their order. Raises Mistake where there are none, or one is missing."""
    segments = sorted(folder.glob("segment-*.mp4"), key=lambda path: (len(path.name), path.name))
    for number, path in enumerate(segments or [folder]):
        if path != segment(folder, number):
            raise Mistake(f"{segment(folder, number)}: is missing; {AGAIN}")
    return segments


@contextlib.contextmanager
def _pictures(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The pictures of a segment. Raises Mistake where it cannot be read, or has no end."""
    with open_media(path) as file:
        if not file.streams.video or not _complete(path):
            raise Mistake(f"{path}: is cut off or damaged; {AGAIN}")
        yield file, file.streams.video[0]


def _complete(path: Path) -> bool:
    """Whether an MP4 is as long as its boxes say; what is cut off of the last is else missed when it is read."""
    place, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while place < size:
            file.seek(place)
            place += int.from_bytes(file.read(4)) or size
    return place == size
