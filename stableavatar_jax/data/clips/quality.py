"""What makes a clip fit for training, measured while it is prepared, and what is wrong with one."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stableavatar_jax import media
from stableavatar_jax.data.clips.clip import SOUND_SLACK
from stableavatar_jax.data.clips.config import Limits
from stableavatar_jax.data.clips.faces import Face
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.shapes import Float, UInt8

THUMBNAIL = 48
"""Rows and columns of the small grey pictures that cuts and backgrounds are measured on."""
SILENCE = -100.0
"""dBFS of nothing at all."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Measures of one clip."""

    frames: int
    fps: float
    height: int
    width: int
    sound_seconds: float
    sound_rate: int
    uneven: float
    """Seconds by which a frame is shown too early or too late for its number."""
    cuts: int
    """Places where the whole picture changes at once."""
    face_found: float
    """Share of frames with a face."""
    face_score: float
    """How sure the landmark model is, 0 to 1, mean over those frames."""
    face_height: float
    """Forehead to chin as a share of the picture's height, median."""
    background: float
    """Change from frame to frame along the upper and side borders of the picture, in grey levels of 255, median."""
    loudness: float
    """Root mean square of the sound in dBFS."""
    mouth: float
    """Standard deviation of the mouth's opening, as a share of the face's height."""
    faces: int
    """People whose face is in a tenth of the frames or more."""
    face: int
    """Whose face was measured and has the masks, counted from the left from 1."""


def faults(found: Quality, limits: Limits) -> list[str]:
    """What is wrong with a clip, in words; nothing where it may be used."""
    seconds, sound = found.frames / found.fps, found.sound_seconds
    checks = [
        (not limits.fps[0] <= found.fps <= limits.fps[1], f"{found.fps:g} frames a second"),
        (seconds < limits.seconds, f"{seconds:.2f} s short"),
        (abs(sound - seconds) > SOUND_SLACK, f"sound of {sound:.2f} s, not {seconds:.2f}"),
        (found.uneven > limits.uneven, f"frames up to {found.uneven:.2f} s out of time"),
        (limits.faces is not None and found.faces > limits.faces, f"{found.faces} faces"),
        (found.cuts > limits.cuts, f"{found.cuts} cuts"),
        (found.face_found < limits.face_found, f"a face in {found.face_found:.0%} of its frames"),
        (found.face_score < limits.face_score, f"face score {found.face_score:.2f}"),
        (found.face_height < limits.face_height, f"face of {found.face_height:.0%} of the height"),
        (found.background > limits.background, f"background moves by {found.background:.1f}"),
        (found.loudness < limits.loudness, f"sound of {found.loudness:.0f} dBFS"),
        (found.mouth < limits.mouth, f"mouth moves by {found.mouth:.4f}"),
    ]
    return [fault for wrong, fault in checks if wrong]


class Measurement:
    """Gathers what `Quality` is made of, frame by frame."""

    def __init__(self) -> None:
        self._small: list[np.ndarray] = []
        self._faces: Sequence[Face | None] = ()
        self._people = (1, 0)
        self.size = (0, 0)
        """Rows and columns of the pictures."""

    def frame(self, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """Look at a frame."""
        self.size = pixels.shape[:2]
        self._small.append(thumbnail(pixels))

    def person(self, faces: Sequence[Face | None], number: int, of: int) -> None:
        """Note the face in each frame of the one person, number `number` of so many, that the clip is used for."""
        self._faces, self._people = faces, (number, of)

    def result(self, fps: float, samples: Float[np.ndarray, "S"], sound_rate: int, uneven: float) -> Quality:
        """The measures of the whole clip; `samples` are its sound at 16 kHz, `uneven` is `uneven_time`."""
        found = [face for face in self._faces if face]
        small = np.stack(self._small)
        median = lambda values: float(np.median(values)) if len(values) else 0.0  # noqa: E731
        return Quality(
            frames=len(small), fps=fps, height=self.size[0], width=self.size[1],
            sound_seconds=len(samples) / SAMPLE_RATE, sound_rate=sound_rate, uneven=uneven,
            cuts=count_cuts(small), background=border_motion(small),
            face_found=len(found) / len(small), face_score=float(np.mean([f.score for f in found])) if found else 0.0,
            face_height=median([f.height / self.size[0] for f in found]),
            mouth=float(np.std([f.mouth for f in found])) if found else 0.0, loudness=loudness(samples),
            face=self._people[0], faces=self._people[1],
        )  # fmt: skip


def thumbnail(pixels: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "n n"]:
    """A small grey picture, 0 to 255: the means of a grid of rectangles."""
    height, width, _ = pixels.shape
    rows, columns = (np.linspace(0, n, THUMBNAIL + 1).astype(int)[:-1] for n in (height, width))
    grey = pixels.mean(-1, dtype=np.float32)
    areas = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    return np.add.reduceat(np.add.reduceat(grey, rows, 0), columns, 1) / areas.astype(np.float32)


def count_cuts(small: Float[np.ndarray, "T n n"], change: float = 20.0, times: float = 5.0) -> int:
    """Frames that differ from the one before by `change` grey levels on average, and `times` more than is usual."""
    steps = np.abs(np.diff(small, axis=0)).mean((1, 2))
    return int(np.count_nonzero((steps > change) & (steps > times * np.median(steps)))) if len(steps) else 0


def border_motion(small: Float[np.ndarray, "T n n"]) -> float:
    """Median over time of the change where the person seldom is: along the sides and the top, a tenth each."""
    border = np.zeros(small.shape[1:], bool)
    tenth = THUMBNAIL // 10
    border[:tenth] = border[: THUMBNAIL // 2, :tenth] = border[: THUMBNAIL // 2, -tenth:] = True
    steps = np.abs(np.diff(small[:, border], axis=0)).mean(1)
    return float(np.median(steps)) if len(steps) else 0.0


def loudness(samples: Float[np.ndarray, "S"]) -> float:
    """Root mean square in dB of full scale."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return max(SILENCE, 10 * np.log10(power)) if power else SILENCE


def uneven_time(path: Path, fps: float) -> float:
    """Seconds by which the clock of a frame differs most from its number / fps."""
    times = media.frame_times(path)
    if len(times) < 2:
        return 0.0
    error = np.array(times) - np.arange(len(times)) / fps
    return float(np.ptp(error) / 2)


def as_row(found: Quality) -> dict[str, int | float]:
    """A quality as a row of a table, rounded for reading."""
    return {name: round(value, 4) for name, value in dataclasses.asdict(found).items()}
