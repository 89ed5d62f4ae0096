"""Options of `prepare` and `build`; the work is imported when it is run."""

from dataclasses import dataclass, field
from pathlib import Path

from stableavatar_jax.data.config import ClipWindow, Kind, MissingMasks, OnBad
from stableavatar_jax.errors import Mistake, need
from stableavatar_jax.inputs import check_there


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a clip must keep to be used. The report has all measures, so other limits need no new preparation."""

    fps: tuple[float, float] = (23.9, 31.0)
    """Lowest and highest frame rate, in frames a second."""
    seconds: float = 2.0
    """Shortest clip, in seconds."""
    uneven: float = 0.06
    """Largest error of a frame's time, in seconds; uneven frames drift away from the sound."""
    cuts: int = 0
    """Largest number of cuts."""
    faces: int | None = None
    """Largest number of faces; without it clips of several people are used, with masks for one of them."""
    face_found: float = 0.95
    """Smallest share of frames with a face."""
    face_score: float = 0.8
    """Lowest mean score of the face."""
    face_height: float = 0.08
    """Smallest face, as a share of the picture's height."""
    background: float = 4.0
    """Largest change along the borders, in grey levels; a moving camera changes them."""
    loudness: float = -50.0
    """Lowest loudness of the sound, in dBFS."""
    mouth: float = 0.004
    """Lowest standard deviation of the mouth's opening, as a share of the face's height."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Find faces, cut out the sound and measure the quality of raw clips.

    python -m stableavatar_jax.data prepare --source RAW --output PREPARED \\
        --detector face_detection_short_range.tflite \\
        --landmarks face_landmark.tflite
    """

    source: Path
    """Folder of videos (subfolders included), or .txt file with one path per line (required)."""
    output: Path
    """Folder for the prepared clips (required)."""
    detector: Path
    """MediaPipe's face detector, face_detection_short_range.tflite (required)."""
    landmarks: Path
    """MediaPipe's landmark model, face_landmark.tflite (required)."""
    frames: int = ClipWindow.frames
    """Number of frames of a training window; shorter clips are left out."""
    fps: float | None = None
    """Frame rate that all clips are converted to, so that training compiles one program; without it each clip keeps its
    own."""
    vocals: Path | None = None
    """Folder of voices separated from the music, NAME.wav for NAME.mp4; other clips keep their own sound."""
    face: int | None = None
    """Number of the face that the masks are for, from the left, from 1, in all clips; without it and --mask the one
    with the largest mean area."""
    mask: Path | None = None
    """Picture that is white where the speaker is, for all clips, or folder of such pictures, NAME.png for NAME.mp4."""
    grow: float = 0.1
    """Share by which masks are larger than the face and the lips."""
    workers: int | None = None
    """Number of processes that work on a clip each, by default one for each processor; 0 works in this process, which a
    clip that crashes would end."""
    on_bad: OnBad = "skip"
    """Whether a clip that cannot be read is left out and reported, or ends the run."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self):
        if (self.workers or 0) < 0 or self.frames < 1 or self.fps is not None and not 1 <= self.fps <= 240:
            raise Mistake("workers is 0 or more, frames 1 or more, fps 1 to 240")
        if self.face is not None and self.face < 1:
            raise Mistake(f"--face {self.face}: faces are counted from the left, from 1")
        if self.face is not None and self.mask:
            raise Mistake("--face and --mask both say whose face it is; give one of them")

    def run(self) -> None:
        """Prepare the clips and print what was left out. Raises Mistake where that is all of them."""
        for path in (self.detector, self.landmarks):
            if not path.is_file():
                raise Mistake(f"{path}: no such model file; docs/data.md says where to get the face models")
        if self.mask:
            check_there(self.mask, "give a picture, or a folder of NAME.png for NAME.mp4")
        need("face", "ai_edge_litert")
        from stableavatar_jax.data.clips.prepare import prepare

        tally = prepare(self)
        print(tally, self.output / "report.csv", sep="\n")
        if not tally.used:
            raise Mistake(f"{self.source}: no clip can be used; report.csv says why")


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Pack clips into one data set (ArrayRecord).

    python -m stableavatar_jax.data build --source PREPARED --output CLIPS
    """

    source: Path
    """Folder that `prepare` made, folder of clips in the release's layout, or .txt file with one path per line
    (required)."""
    output: Path
    """New folder for the data set (required)."""
    overwrite: bool = False
    """Whether the output is replaced where it exists."""
    kind: Kind = "talking"
    """Kind of the clips whose path contains none of speech, talking, singing and dancing."""
    on_bad: OnBad = "error"
    """Whether a clip that cannot be used ends the build, or is left out, counted and logged."""
    missing_masks: MissingMasks = "error"
    """The same for a clip without masks; `ones` takes it, and training must be given `ones` again."""

    def run(self) -> None:
        """Build the data set and print what was left out."""
        if not self.source.exists():
            raise Mistake(f"{self.source}: no such folder or list of clips; `prepare` makes such a folder")
        from stableavatar_jax.data.clips.dataset import build

        print(build(self), self.output, sep="\n")
