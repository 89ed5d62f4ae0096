"""The video file: frames are written as they are made, with the recording; the file is complete or absent."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from stableavatar_jax.errors import Mistake, explained
from stableavatar_jax.media.pixels import postprocess
from stableavatar_jax.media.sound import Sound, open_sound
from stableavatar_jax.shapes import Float, UInt8
from stableavatar_jax.whole import whole

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
        preset: str = "medium",
    ):
        """`crf` is x264's quality: 18 cannot be told from the frames, 23 is half the size. Its `preset` is how much it
        works for that. Raises Mistake for a frame or a name that no such video has.
        """
        if path.suffix.lower() != ".mp4":
            raise Mistake(f"{path}: the video is an MP4; give it a name that ends in .mp4")
        if height % 2 or width % 2:
            raise Mistake(f"{height}x{width}: H.264 with yuv420p colours needs an even height and width")
        self.path = path
        self.fps = frame_rate(fps)
        self.shape = (height, width, 3)
        self.sound = sound
        self.crf, self.preset = crf, preset
        self.frames = 0
        """Frames written so far."""

    def __enter__(self) -> "VideoWriter":
        with ExitStack() as opened:
            self._file, sound = opened.enter_context(open_mp4(self.path, self.sound))
            with explained(self.path):
                options = _encoder(self.crf, self.preset)
                self._pictures = self._file.add_stream("libx264", rate=self.fps, options=options)
                self._pictures.height, self._pictures.width, _ = self.shape
                self._pictures.pix_fmt = "yuv420p"
                coder = self._pictures.codec_context
                coder.color_range, coder.colorspace = ColorRange.MPEG, Colorspace.ITU709
                coder.color_primaries, coder.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
                self._track = SoundTrack(self._file, sound) if sound else None
            self._opened = opened.pop_all()
        return self

    def write(self, frames: UInt8[np.ndarray, "T H W 3"] | Float[np.ndarray, "T H W 3"]) -> None:
        """Append frames of the writer's height and width, uint8 or float in -1..1 (see `postprocess`)."""
        if frames.shape[1:] != self.shape:
            raise Mistake(f"{self.path}: frames of shape {frames.shape[1:]} given to a video of {self.shape}")
        with explained(self.path):
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._opened.__exit__(kind, error, trace)  # closes all, and removes what was written
            return
        with self._opened:
            self._finish()

    def _finish(self) -> None:
        if not self.frames:
            raise Mistake(f"{self.path}: no frames were written, so there is no video")
        with explained(self.path):
            self._file.mux(self._pictures.encode(None))
            if self._track:
                self._file.mux(self._track.encode(self.frames / self.fps, last=True))


def frame_rate(fps: int | float | Fraction) -> Fraction:
    """Frames a second as the fraction that the file states."""
    return Fraction(fps).limit_denominator(1001)


def _encoder(crf: int, preset: str) -> dict[str, str]:
    """x264's options, with which the same frames give the same bytes each time.

    Its AVX-512 code does not: frames between others came out differently in 1 of 5 runs at 64x96 (x264 165, FFmpeg 8).
    """
    cpu = Path("/proc/cpuinfo")
    wide = cpu.exists() and "avx512" in cpu.read_text()
    return {"crf": str(crf), "preset": preset, **({"x264-params": "asm=AVX2"} if wide else {})}


@contextmanager
def open_mp4(
    path: Path, sound: Path | Sound | None, *, inputs: Iterable[Path | None] = (), space: int = 0
) -> Iterator[tuple[OutputContainer, Sound | None]]:
    """An MP4 to be written, whole or not at all (`whole`), and the sound that goes into it, opened."""
    with ExitStack() as opened:
        with explained(path):
            given = [sound] if isinstance(sound, Path) else []
            heard = opened.enter_context(open_sound(sound)) if isinstance(sound, Path) else sound
            partial = opened.enter_context(whole(path, inputs=[*given, *inputs], space=space))
            partial.touch()  # now, not with the first packet: a path of no use is found out at once
            # Absolute, or FFmpeg takes what stands before a colon for a protocol.
            file = av.open(partial.absolute(), "w", format="mp4", options={"movflags": "+faststart"})
        try:
            yield file, heard
        except BaseException:
            with suppress(OSError):  # the error that led here is the one to report
                file.close()
            raise
        with explained(path):
            file.close()


class SoundTrack:
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
