"""Videos read from files: what they contain, and their pictures one by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video import VideoStream
from av.video.reformatter import ColorTrc

from stableavatar_jax.errors import Mistake
from stableavatar_jax.media.files import open_media
from stableavatar_jax.shapes import UInt8

HDR = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}
"""Transfer functions of high dynamic range, by FFmpeg's number."""
MOST_SQUEEZED = 4
"""Times as wide as high that a pixel may be, or as high as wide; more is a broken header."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is in a video file."""

    frames: int
    fps: float
    """Frames a second, the average where they are not evenly spaced."""
    height: int
    width: int
    """Square pixels, upright."""
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


def read_video(path: Path, data: bytes | None = None) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of a video in order, each RGB, upright, with square pixels. Memory does not grow with its length.

    A file that is cut short gives the frames it has. Raises Mistake where there is no video, where it is damaged, and
    where its frames cannot be shown right: high dynamic range, interlaced, turned by no right angle, of several sizes.
    `data` is the file's content where that is in memory already.
    """
    with open_media(path, data) as container:
        stream = _pictures(path, container)
        stream.thread_type = "AUTO"
        number, shape = 0, None
        try:
            for frame in container.decode(stream):
                shown = _as_seen(path, frame, float(stream.sample_aspect_ratio or 1))
                if shape not in (None, shown.shape):
                    raise Mistake(f"{path}: its pictures change size after frame {number}; export it in one size")
                shape = shown.shape
                yield shown
                number += 1
        except av.error.FFmpegError as error:
            raise Mistake(
                f"{path}: the video is damaged after frame {number} ({error.strerror}); copy or export it again"
            ) from error


def frame_times(path: Path, data: bytes | None = None) -> list[float]:
    """Seconds of the file's clock at which its frames are shown, in order; nothing is decoded."""
    with open_media(path, data) as container:
        packets = container.demux(_pictures(path, container))
        return sorted(float(p.pts * p.time_base) for p in packets if p.pts is not None and p.time_base and p.size)


def _as_seen(path: Path, frame: av.VideoFrame, aspect: float) -> UInt8[np.ndarray, "H W 3"]:
    """A frame as players show it; a pixel of it is `aspect` times as wide as high."""
    if curve := HDR.get(int(frame.color_trc)):
        raise Mistake(
            f"{path}: the video has high dynamic range ({curve}), whose colours would come out wrong; export it "
            "with standard range (SDR)",
            "HDR",
        )
    if frame.interlaced_frame:
        raise Mistake(
            f"{path}: the video is interlaced, a frame shows two moments; deinterlace it (FFmpeg: -vf bwdif)",
            "interlaced",
        )
    if not 1 / MOST_SQUEEZED <= aspect <= MOST_SQUEEZED:
        raise Mistake(f"{path}: its pixels are {aspect:.3g} times as wide as high; export it with square pixels")
    side_data: Any = frame.side_data
    matrix = side_data.get(Type.DISPLAYMATRIX)
    if aspect != 1:
        width, height = round(frame.width * max(1, aspect)), round(frame.height / min(1, aspect))
        frame = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC")
    pixels = frame.to_ndarray(format="rgb24")
    return pixels if matrix is None else _upright(path, bytes(matrix), pixels)


def _upright(path: Path, matrix: bytes, pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Pixels turned and mirrored as a display matrix says: x' = a x + c y, y' = b x + d y."""
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(float)
    turned = abs(b) > abs(a)
    kept, crossed = ((b, c), (a, d)) if turned else ((a, d), (b, c))
    if not all(kept) or max(map(abs, crossed)) > 0.01 * min(map(abs, kept)):
        raise Mistake(f"{path}: the video is turned by no right angle; export it upright", "turned")
    if turned:
        pixels = pixels.swapaxes(0, 1)
    right, down = (c, b) if turned else (a, d)
    return np.ascontiguousarray(pixels[:: 1 if down > 0 else -1, :: 1 if right > 0 else -1])


def _pictures(path: Path, container: InputContainer) -> VideoStream:
    """The video stream of a container; the cover picture of a song is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise Mistake(f"{path}: the file has no video track; give a video")
