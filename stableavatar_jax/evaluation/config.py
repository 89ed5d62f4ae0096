"""Options of the commands that measure, read without the model, the world and the libraries they need."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from stableavatar_jax.data.kinds import expect
from stableavatar_jax.errors import Mistake, need
from stableavatar_jax.inputs import check_file
from stableavatar_jax.presets import load_preset
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.whole import check_folder

WORLD = ("skia", "espeakng_loader")
"""Modules of the extra `demo`, which whatever draws or speaks needs."""


def shipped() -> SampleConfig:
    """How the small avatar that comes with the package makes videos."""
    return load_preset("demo", SampleConfig)


def shipped_model() -> Path:
    """Its model directory."""
    folder = shipped().weights.checkpoint
    assert folder is not None
    return folder


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Measure videos: lips against sound, drift of colours, sharpness and identity, frozen frames, seams, a truth.

    python -m stableavatar_jax.evaluation talk.mp4 --output REPORT \\
        --detector face_detection_short_range.tflite \\
        --landmarks face_landmark.tflite
    python -m stableavatar_jax.evaluation demo.mp4 --character 10000013

    Mouth, head and identity need face models (docs/data.md), or the number of a character of the cartoon world.
    """

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Any videos; each has a row in the table."""
    reference: Path | None = None
    """Picture that the videos were made from: colours and identity are compared with it too."""
    audio: Path | None = None
    """Recording that they speak; by default the sound of each video."""
    truth: tuple[Path, ...] = ()
    """True videos, one for each: PSNR and SSIM against it, and lips against its lips in place of the sound."""
    detector: Path | None = None
    """MediaPipe's face detector, face_detection_short_range.tflite."""
    landmarks: Path | None = None
    """MediaPipe's landmark model, face_landmark.tflite."""
    identity: Path | None = None
    """dlib's face recognition model, dlib_face_recognition_resnet_model_v1.dat (needs dlib)."""
    syncnet: Path | None = None
    """SyncNet's weights: Sync-C and Sync-D (docs/evidence.md says which file)."""
    character: int | None = None
    """Number of the character of the cartoon world that is shown, in place of the face models."""
    windows: tuple[int, int] | None = None
    """Latent frames of a window, and those it shares with the next: changes of the picture at the joints."""
    output: Path | None = None
    """Folder for report.html, report.json and pictures; without it the table is only printed."""

    def __post_init__(self):
        if not self.videos:
            raise Mistake("give one video or more")
        if len(self.truth) not in (0, len(self.videos)):
            raise Mistake(f"{len(self.truth)} true videos for {len(self.videos)}; give one for each")
        if bool(self.detector) != bool(self.landmarks):
            raise Mistake("--detector and --landmarks are needed together; docs/data.md says where to get them")
        if self.character is not None and self.detector:
            raise Mistake("--character reads cartoons, --detector faces; give one of them")
        if (self.identity or self.syncnet) and not self.detector:
            raise Mistake("--identity and --syncnet need --detector and --landmarks, which find the face")
        if self.character is not None and self.character < 0:
            raise Mistake(f"character is {self.character}, 0 or more is needed")

    def run(self) -> None:
        """Print the table, write the report. Raises Mistake for files that cannot be read."""
        given: tuple[Path | None, ...] = (*self.videos, self.reference, self.audio, *self.truth)
        given += (self.detector, self.landmarks, self.identity, self.syncnet)
        for path in given:
            if path is not None:
                check_file(path)
        if self.output is not None:
            check_folder(self.output, inputs=given)
        from stableavatar_jax.evaluation.videos import judge

        judge(self)


@dataclass(frozen=True, kw_only=True)
class Talk:
    """Make held-out characters speak held-out voices, and measure their mouths against the truth.

    python -m stableavatar_jax.evaluation talk --clips HELD
    python -m stableavatar_jax.evaluation talk --clips HELD \\
        --recordings speech-1.wav speech-2.wav
    """

    clips: Path
    """Held-out clips of the world: their first frames, sounds and truth are used."""
    recordings: tuple[Path, ...] = ()
    """Sounds of which no truth is known, spoken by the clips' characters in place of the clips' own; they are measured
    against the rule of `world.listening`."""
    seconds: float = 10.0
    """How much of each recording is spoken."""
    number: int = 8
    """How many clips are taken, evenly spaced over the data set."""
    captions: bool = False
    """Describe each character to the model as its clip does; by default all have the prompt of `sample`."""
    sample: SampleConfig = field(default_factory=shipped)
    """How videos are made; by default as the preset `demo` says. Picture and sound are those of the clips."""
    output: Path = Path("outputs/talk")
    """The folder for report.html, report.json and sheet.png, in which the true video stands over the generated one."""

    def __post_init__(self):
        if self.number < 1 or self.seconds <= 0:
            raise Mistake("number is 1 or more, seconds above 0")

    def run(self) -> int:
        """Make the videos, measure, print, write; returns 1 where a gate is missed."""
        need("demo", *WORLD)
        expect(self.clips, "clips", "--clips")
        for recording in self.recordings:
            check_file(recording)
        check_folder(self.output, inputs=(self.clips, *self.recordings))
        from stableavatar_jax.evaluation.talk import judge

        return judge(self)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Make one long video of a held-out character, and compare its end with its beginning.

    python -m stableavatar_jax.evaluation drift --seconds 180
    """

    seconds: float = 180.0
    """The length of the video."""
    stretch: float = 20.0
    """The length of the first and the last stretch, and of each between that has a row of its own, in seconds."""
    number: int = 0
    """The held-out character's number; voice and sentences belong to it."""
    sample: SampleConfig = field(default_factory=shipped)
    """How videos are made; by default as the preset `demo` says. Picture and sound are the character's."""
    output: Path = Path("outputs/drift")
    """The folder for report.html, report.json and sheet.png, a row for each stretch."""

    def __post_init__(self):
        if not 1 <= self.stretch <= self.seconds / 2:
            raise Mistake(f"stretch is {self.stretch:g} s, 1 to {self.seconds / 2:g} s (half the video) are needed")
        if self.number < 0:
            raise Mistake(f"number is {self.number}, 0 or more is needed")

    def run(self) -> int:
        """Make the video, measure, print, write; returns 1 where a gate is missed."""
        need("demo", *WORLD)
        check_folder(self.output)
        from stableavatar_jax.evaluation.long import judge

        return judge(self)
