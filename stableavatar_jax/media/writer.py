"""The video file: frames are written as they are made, with the recording; the file is complete or absent."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from stableavatar_jax.errors import Mistake
from stableavatar_jax.media.pixels import postprocess
from stableavatar_jax.media.sound import Sound, open_sound
from stableavatar_jax.shapes import Float, UInt8

AAC_FRAME = 1024
"""Samples in an AAC frame. The last one is always whole, and decoders differ in whether they cut it where it ends."""
AAC_RATES = (32000, 44100, 48000)
"""Samples a second that are kept. At these an AAC frame is no longer than a video frame (32 ms); at 16000 it is 64 ms,
and the sound would seem to outlast the pictures."""
AAC_BITS = 128_000
"""Bits a second and channel."""


class VideoWriter:
    """Writes an MP4 (H.264 yuv420p, AAC) piece by piece, in memory that does not grow with its length.

    >>> with VideoWriter(path, fps=25, height=480, width=832, sound=recording) as video:
    ...     for frames in decoded:
    ...         video.write(frames)

    The sound is the recording itself, cut to the exact length of the frames or followed by silence. All goes to a
    hidden file in the same folder, which takes the name `path` when it is whole: after an error nothing of it is
    left, and an older file of that name is untouched. Entering raises Mistake where the path or the recording is
    of no use.
    """

    def __init__(
        self,
        path: Path,
        *,
        fps: int | float | Fraction,
        height: int,
        width: int,
        sound: Path | Sound | None = None,
        crf: int = 18,
    ):
        """`crf` is x264's quality: 18 cannot be told from the frames, 23 is half the size."""
        if height % 2 or width % 2:
            raise Mistake(f"{height}x{width}: H.264 with yuv420p colours needs an even height and width")
        self.path = path
        self.fps = Fraction(fps).limit_denominator(1001)
        self.shape = (height, width, 3)
        self.sound = sound
        self.crf = crf
        self.frames = 0
        """Frames written so far."""
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")

    def __enter__(self) -> "VideoWriter":
        with ExitStack() as opened, self._explained():
            _check_output(self.path)
            sound = opened.enter_context(open_sound(self.sound)) if isinstance(self.sound, Path) else self.sound
            opened.callback(self._part.unlink, missing_ok=True)
            self._part.touch()  # now, not with the first packet: a path of no use is found out at once
            self._file = av.open(self._part, "w", format="mp4", options={"movflags": "+faststart"})
            opened.callback(self._abandon)
            self._pictures = self._file.add_stream("libx264", rate=self.fps, options={"crf": str(self.crf)})
            self._pictures.height, self._pictures.width, _ = self.shape
            self._pictures.pix_fmt = "yuv420p"
            coder = self._pictures.codec_context
            coder.color_range, coder.colorspace = ColorRange.MPEG, Colorspace.ITU709
            coder.color_primaries, coder.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
            self._track = _SoundTrack(self._file, sound) if sound else None
            self._opened = opened.pop_all()
        return self

    def write(self, frames: UInt8[np.ndarray, "T H W 3"] | Float[np.ndarray, "T H W 3"]) -> None:
        """Append frames of the writer's height and width, uint8 or float in -1..1 (see `postprocess`)."""
        if frames.shape[1:] != self.shape:
            raise Mistake(f"{self.path}: frames of shape {frames.shape[1:]} given to a video of {self.shape}")
        with self._explained():
            for pixels in frames if frames.dtype == np.uint8 else postprocess(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame = frame.reformat(
                    format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
                )
                frame.pts, frame.time_base = self.frames, 1 / self.fps
                self._file.mux(self._pictures.encode(frame))
                self.frames += 1
            if self._track:  # sound keeps up with the pictures, so that neither waits in memory for the other
                self._file.mux(self._track.encode(self.frames / self.fps))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._opened:  # closes all, and removes the hidden file where it was not renamed
            if kind is None:
                self._finish()

    def _finish(self) -> None:
        if not self.frames:
            raise Mistake(f"{self.path}: no frames were written, so there is no video")
        with self._explained():
            self._file.mux(self._pictures.encode(None))
            if self._track:
                self._file.mux(self._track.encode(self.frames / self.fps, last=True))
            self._file.close()
            self._part.replace(self.path)

    def _abandon(self) -> None:
        with suppress(OSError):  # the error that led here is the one to report
            self._file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # of the file system; PyAV raises them by the same names
            raise Mistake(
                f"{self.path}: cannot be written ({error.strerror}); make room, or choose a folder you may write to"
            ) from error


class _SoundTrack:
    """A recording as AAC, encoded as far as the pictures reach.

    It keeps its rate where AAC_RATES has it, and one or two channels; more are mixed to one.
    """

    def __init__(self, file: OutputContainer, sound: Sound):
        self.rate = sound.rate if sound.rate in AAC_RATES else 44100 if sound.rate % 11025 == 0 else 48000
        self.channels = min(sound.channels, 2) if sound.channels <= 2 else 1
        self.layout = "mono" if self.channels == 1 else "stereo"
        self.stream = file.add_stream("aac", rate=self.rate, layout=self.layout)
        self.stream.bit_rate = AAC_BITS * self.channels
        self.blocks = self._resampled(sound)
        self.waiting = np.zeros((self.channels, 0), np.float32)
        self.encoded = 0

    def encode(self, seconds: Fraction, last: bool = False) -> list[av.Packet]:
        """The packets that become whole when the video reaches `seconds`; with `last`, all of them up to there."""
        stop = round(seconds * self.rate)
        packets = []
        while self.encoded + AAC_FRAME <= stop or last and self.encoded < stop:
            frame = self._frame(self._take(min(AAC_FRAME, stop - self.encoded)), self.rate)
            frame.pts, frame.time_base = self.encoded, Fraction(1, self.rate)
            packets += self.stream.encode(frame)
            self.encoded += frame.samples
        return packets + (self.stream.encode(None) if last else [])

    def _take(self, samples: int) -> np.ndarray:
        """The next samples of the recording, silence where it is over."""
        while self.waiting.shape[1] < samples:
            block = next(self.blocks, np.zeros((self.channels, samples), np.float32))
            self.waiting = np.concatenate([self.waiting, block], axis=1)
        taken, self.waiting = self.waiting[:, :samples], self.waiting[:, samples:]
        return taken

    def _resampled(self, sound: Sound) -> Iterator[np.ndarray]:
        to_rate = av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)
        for block in sound.blocks:
            mixed = block if len(block) == self.channels else block.mean(axis=0, keepdims=True)
            if mixed.size:
                yield from (part.to_ndarray() for part in to_rate.resample(self._frame(mixed, sound.rate)))
        if sound.rate != self.rate:
            yield from (part.to_ndarray() for part in to_rate.resample(None))

    def _frame(self, samples: np.ndarray, rate: int) -> av.AudioFrame:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self.layout)
        frame.sample_rate = rate
        return frame


def _check_output(path: Path) -> None:
    if path.suffix.lower() != ".mp4":
        raise Mistake(f"{path}: the video is an MP4; give it a name that ends in .mp4")
    if path.is_dir():
        raise Mistake(f"{path}: is a folder; give the video a name of its own")
    if not path.parent.is_dir():
        raise Mistake(f"{path}: there is no folder {path.parent}; make it first")
