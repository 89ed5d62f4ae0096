"""Videos read from files: what is in one, and its pictures one by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video import VideoStream

from stableavatar_jax.errors import Mistake
from stableavatar_jax.media.files import open_media


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is in a video file."""

    frames: int
    fps: float
    """Frames a second, the average where they are not evenly spaced."""
    height: int
    width: int
    """Pixels, upright."""
    sound: bool
    """Whether it has a sound track."""

    @property
    def seconds(self) -> float:
        """Length of the pictures."""
        return self.frames / self.fps


def probe(path: Path) -> VideoInfo:
    """What is in a video file. Raises Mistake where there is no video, or none that can be decoded."""
    with open_media(path) as container:
        stream = _pictures(path, container)
        sound = bool(container.streams.audio)
        rate = stream.average_rate or stream.guessed_rate
        # MPEG program streams state no number of frames; a packet holds one.
        frames = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
    first = next(read_video(path), None)
    if first is None or not rate or not frames:
        raise Mistake(f"{path}: the video has no frames that can be decoded; copy or export it again")
    height, width, _ = first.shape
    return VideoInfo(frames=frames, fps=float(rate), height=height, width=width, sound=sound)


def read_video(path: Path, data: bytes | None = None) -> Iterator[np.ndarray]:
    """The frames of a video in order, each uint8 RGB [H, W, 3], upright. Memory does not grow with its length.

    A file that is cut short gives the frames it has. Raises Mistake where there is no video, or where it is damaged.
    `data` is the file's content where that is in memory already.
    """
    with open_media(path, data) as container:
        stream = _pictures(path, container)
        stream.thread_type = "AUTO"
        number = 0
        try:
            for frame in container.decode(stream):
                yield np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                number += 1
        except av.error.FFmpegError as error:
            raise Mistake(
                f"{path}: the video is damaged after frame {number} ({error.strerror}); copy or export it again"
            ) from error


def _pictures(path: Path, container: InputContainer) -> VideoStream:
    """The video stream of a container; the cover picture of a song is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise Mistake(f"{path}: the file has no video track; give a video")
