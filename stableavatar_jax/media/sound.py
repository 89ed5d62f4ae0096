"""The recording: read from any sound or video file, and cut to the windows of the video it drives."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soxr
from av.audio import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video import VideoStream

from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.media.excerpt import Excerpt, cut, track_number
from stableavatar_jax.media.files import open_media
from stableavatar_jax.shapes import Float

HOLE = 0.1
"""Seconds by which a sound's clock must jump ahead to be filled with silence; less is how clocks are rounded."""
LONGEST_HOLE = 60
"""Seconds. A longer jump is a broken clock, not a pause."""
CUT_PACKETS = 2
"""Packets that may be broken at the end of a sound that was cut off; more are damage."""
MOST_CHANNELS = 64
"""Channels that FFmpeg converts."""
CANCELLED = 0.1
"""Share of the power of unlike channels below which the mean of a sound's channels is said to have cancelled out."""
ALL = Excerpt()

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sound:
    """A sound that is read once, from its beginning, block by block."""

    rate: int
    """Samples a second."""
    channels: int
    blocks: Iterator[np.ndarray]
    """float32 [channels, any number of samples], -1..1."""
    tracks: int = 1
    """Sound tracks of the file."""
    track: int = 1
    """Which of them it is."""


@contextmanager
def open_sound(path: Path, data: bytes | None = None, excerpt: Excerpt = ALL) -> Iterator[Sound]:
    """The sound of a sound or video file, or an excerpt of it, at its own rate and with its own channels.

    The sound of a video begins where its pictures begin: silence is put before it, or its beginning is cut off.
    Where a piece is missing there is silence; a file that is cut short is read as far as it goes. Raises Mistake,
    also while the blocks are read, where there is no sound or no such excerpt, where it is damaged, or where samples
    are not finite. `data` is the file's content where that is in memory already.
    """
    with open_media(path, data) as container:
        number = track_number(path, container, excerpt.track)
        stream = container.streams.audio[number - 1]
        if not stream.rate or not stream.channels:
            raise Mistake(f"{path}: its sound cannot be decoded; export it as WAV")
        if stream.channels > MOST_CHANNELS:
            raise Mistake(
                f"{path}: its sound has {stream.channels} channels, at most {MOST_CHANNELS} can be read; export it as "
                "mono or stereo"
            )
        blocks = cut(path, _decode(path, container, stream), stream.rate, excerpt)
        yield Sound(stream.rate, stream.channels, blocks, len(container.streams.audio), number)


def read_sound(path: Path, rate: int = SAMPLE_RATE, data: bytes | None = None) -> Float[np.ndarray, "S"]:
    """The sound of a file as float32 at `rate` samples a second: the mean of its channels, resampled (`mono`)."""
    return np.concatenate(list(mono(path, rate, data, tell=data is None)))


def mono(
    path: Path, rate: int = SAMPLE_RATE, data: bytes | None = None, excerpt: Excerpt = ALL, *, tell: bool = False
) -> Iterator[Float[np.ndarray, "_"]]:
    """The blocks of an excerpt of a file's sound as float32 at `rate` samples a second: the mean of its channels,
    resampled.

    Every block has a sample, and at most those of LONGEST_HOLE seconds. Raises Mistake where there is no sound (see
    `open_sound`), or where it is empty. Silence is a sound. With `tell`, logs a notice of a file that has more tracks
    than one and of which none is wanted, or whose channels cancel out.
    """
    power, mixed_power, empty = 0.0, 0.0, True
    with open_sound(path, data, excerpt) as sound:
        resampled = _Resampler(sound.rate, rate)
        for block in sound.blocks:
            mixed = block.mean(axis=0)
            power += float(np.square(block).sum()) / sound.channels**2  # of the mean, were the channels unlike
            mixed_power += float(np.square(mixed).sum())
            if (heard := resampled(mixed)).size:
                empty = False
                yield heard
        if (heard := resampled.rest()).size:
            empty = False
            yield heard
    if tell and sound.tracks > 1 and excerpt.track is None:
        LOG.warning("%s: it has %d sound tracks, number %d is used", path, sound.tracks, sound.track)
    if tell and mixed_power < CANCELLED * power:
        LOG.warning("%s: its channels cancel out when they are mixed; export one of them alone", path)
    if empty:
        raise Mistake(f"{path}: the file has a sound track with no samples in it; record or export it again")


def window_sound(
    samples: Float[np.ndarray, "S"], start: int, frames: int, fps: int | float, rate: int = SAMPLE_RATE
) -> Float[np.ndarray, "S_window"]:
    """The audio encoder's input for video frames start .. start + frames - 1.

    Frame f begins at sample round(f * rate / fps); the length depends on `frames` alone, so windows have one shape.
    The samples that the sound has are normalised; silence then fills up the length, exactly 0.
    """
    length = round(frames * rate / fps)
    first = round(start * rate / fps)
    heard = samples[first : first + length]
    return np.pad(normalise(heard), (0, length - len(heard)))


def normalise(samples: Float[np.ndarray, "S"]) -> Float[np.ndarray, "S"]:
    """Zero mean and unit variance, (x - mean) / sqrt(var + 1e-7) in float32, as Wav2Vec2 was trained."""
    if not samples.size:
        return samples
    return (samples - samples.mean()) / np.sqrt(samples.var() + np.float32(1e-7))


class _Resampler:
    """Sound at another rate, block by block: sample for sample what `librosa.resample(..., "soxr_hq")` makes of all."""

    def __init__(self, given: int, wanted: int):
        self.given, self.wanted = given, wanted
        self.stream = None if given == wanted else soxr.ResampleStream(given, wanted, 1, dtype="float32", quality="HQ")
        self.taken = self.made = 0

    def __call__(self, block: Float[np.ndarray, "S"]) -> Float[np.ndarray, "_"]:
        """What can be made now that the next samples are there."""
        self.taken += len(block)
        made = block if self.stream is None else self.stream.resample_chunk(block)
        self.made += len(made)
        return made

    def rest(self) -> Float[np.ndarray, "_"]:
        """What was held back: the sound is over. Its length is rounded up, with a silent sample where soxr has none."""
        if self.stream is None:
            return np.zeros(0, np.float32)
        last = self.stream.resample_chunk(np.zeros(0, np.float32), last=True)
        length = -(-self.taken * self.wanted // self.given) - self.made
        return np.pad(last[:length], (0, max(0, length - len(last))))


def _decode(path: Path, container: InputContainer, stream: AudioStream) -> Iterator[np.ndarray]:
    """The stream's samples as float32 [channels, samples], from the moment the container's pictures begin."""
    # Packed, and not a plane for each channel: a frame holds the addresses of eight planes, and PyAV reads past them.
    as_float = av.AudioResampler(format="flt")
    tracks = len(container.streams.audio)
    rate = stream.rate
    begin = _first_picture(container)
    position: int | None = None  # of the next sample, counted from `begin`
    for frame in _frames(path, container, stream):
        try:
            block = np.concatenate([_samples(part) for part in as_float.resample(frame)], axis=1)
        except ValueError as error:
            raise Mistake(f"{path}: its sound changes rate or channels midway; export it as WAV") from error
        if begin is None:
            begin = frame.time or 0.0
        due = position or 0 if frame.time is None else round((frame.time - begin) * rate)
        if position is None or due > position + HOLE * rate:
            silence = max(0, due - max(0, position or 0))
            if silence > LONGEST_HOLE * rate:
                raise Mistake(f"{path}: the clock of its sound jumps by {silence / rate:.0f} s; export it as WAV")
            yield np.zeros((len(block), silence), np.float32)
            position = due
        start, stop = max(0, -position), _whole_or_last(container, stream, frame)
        position += frame.samples
        block = block[:, start:stop]
        if bad := np.count_nonzero(~np.isfinite(block)):
            raise Mistake(
                f"{path}: {bad} samples before {position / rate:.2f} s are not finite (NaN or infinite); "
                "export the recording again"
            )
        yield block
    if len(container.streams.audio) > tracks:
        raise Mistake(f"{path}: another sound track begins midway, as in joined files; export it as WAV")


def _samples(frame: av.AudioFrame) -> Float[np.ndarray, "channels samples"]:
    """The samples of a packed float32 frame."""
    channels = frame.layout.nb_channels
    values = np.frombuffer(memoryview(frame.planes[0]), np.float32, frame.samples * channels)
    return np.ascontiguousarray(values.reshape(-1, channels).T)


def _frames(path: Path, container: InputContainer, stream: AudioStream) -> Iterator[av.AudioFrame]:
    """Decoded frames. A broken packet at the end is where a file was cut off; after damage all would be out of time."""
    damage: av.error.FFmpegError | None = None
    broken, seconds = 0, 0.0

    def refusal() -> Mistake:
        assert damage
        return Mistake(
            f"{path}: the sound is damaged {seconds:.2f} s from its start ({damage.strerror}); copy or export it again"
        )

    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            damage, broken = damage or error, broken + 1
            continue
        for frame in frames:
            if damage:
                raise refusal() from damage
            seconds += frame.samples / stream.rate
            yield frame
    if broken > CUT_PACKETS:
        raise refusal() from damage


def _first_picture(container: InputContainer) -> float | None:
    """Seconds of the container's clock at which a video's pictures begin, None where there is sound alone."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return _seconds(stream.start_time, stream)
    return None


def _whole_or_last(container: InputContainer, stream: AudioStream, frame: av.AudioFrame) -> int:
    """Number of samples of a frame that belong to the sound: an MP4 states its length, but its last frame is full."""
    if "mp4" not in container.format.name or stream.duration is None or frame.time is None:
        return frame.samples
    end = _seconds(stream.start_time, stream) + _seconds(stream.duration, stream)
    return max(0, min(frame.samples, round((end - frame.time) * stream.rate)))


def _seconds(ticks: int | None, stream: AudioStream | VideoStream) -> float:
    return float((ticks or 0) * (stream.time_base or 0))
