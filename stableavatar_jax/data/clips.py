"""A clip as it is stored: pictures, sound and masks still encoded, with what a window of it needs to know.

Clips come from the release's folders (`read_folder`), from video files with masks beside them (`read_video_clip`), and
from the data set built of either (`dataset.py`).
"""

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from stableavatar_jax import media
from stableavatar_jax.data.tally import ClipError
from stableavatar_jax.shapes import Float

Kind = Literal["talking", "singing", "dancing"]

PROMPTS: dict[str, str] = {
    "talking": "The protagonist is talking",
    "singing": "The protagonist is singing",
    "dancing": "The protagonist is simultaneously dancing and singing",
}
"""The prompt of each kind of clip, as released."""

WORDS: dict[str, Kind] = {"singing": "singing", "speech": "talking", "dancing": "dancing"}
"""What a path says of the kind, in the release's order."""

SOUND_SLACK = 0.25
"""Seconds by which a clip's sound may be longer or shorter than its pictures; codecs pad less than this."""

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v"}
CLIP_LIST = "clips.txt"
"""In a folder, the list of the clips to use."""
MASKS_SUFFIX = ".masks.zip"
"""`talk.mp4` has its masks in `talk.masks.zip`, as face_masks/frame_0.png and lip_masks/frame_0.png onwards."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A whole clip, encoded. Its pictures are one video, or one file each."""

    id: str
    """Its path within the source, which names it everywhere."""
    kind: Kind
    fps: float
    frames: int
    height: int
    width: int
    """Pixels of its pictures."""
    sound_rate: int
    """Samples a second of its own sound."""
    video: bytes = b""
    images: tuple[bytes, ...] = ()
    face_masks: tuple[bytes, ...] = ()
    lip_masks: tuple[bytes, ...] = ()
    """One picture of one channel a frame, white where the face or the lips are; empty where it is missing."""
    sound: bytes = b""
    """A sound file; empty where the sound is that of the video."""

    @property
    def prompt(self) -> str:
        """What the text encoder reads."""
        return PROMPTS[self.kind]

    @cached_property
    def samples(self) -> Float[np.ndarray, "S"]:
        """Its sound at 16 kHz, the mean of its channels. Raises MediaError where there is none."""
        return media.read_sound(Path(self.id), data=self.sound or self.video)

    @property
    def masks_missing(self) -> int:
        """How many of its 2 * frames masks are not there."""
        there = sum(map(bool, self.face_masks)) + sum(map(bool, self.lip_masks))
        return 2 * self.frames - there

    def pictures(self, numbers: Sequence[int]) -> list[Image.Image]:
        """The RGB pictures of these frames, in any order and with repeats."""
        if self.images:
            opened = {n: open_image(self.images[n], f"{self.id}: picture {n}").convert("RGB") for n in set(numbers)}
        else:
            opened = {}
            for n, frame in enumerate(media.read_video(Path(self.id), self.video)):
                if n in numbers:
                    opened[n] = Image.fromarray(frame)
                if n >= max(numbers):
                    break
        if lost := set(numbers) - opened.keys():
            raise ClipError(f"{self.id}: frame {min(lost)} cannot be decoded, there are {self.frames}; export it again")
        return [opened[n] for n in numbers]

    def mask(self, part: Literal["face_masks", "lip_masks"], number: int) -> Image.Image:
        """The face or lip mask of a frame. Raises ClipError where it is missing or unreadable."""
        data = getattr(self, part)[number]
        if not data:
            self.check_masks()
        try:
            return open_image(data, f"{self.id}: {part}, frame {number}")
        except ClipError as error:
            raise ClipError(str(error), "missing masks") from error

    def check(self) -> None:
        """Raise ClipError unless there is sound, and as long as the pictures."""
        seconds, needed = len(self.samples) / media.SAMPLE_RATE, self.frames / self.fps
        if abs(seconds - needed) > SOUND_SLACK:
            raise ClipError(
                f"{self.id}: its sound lasts {seconds:.2f} s and its {self.frames} frames {needed:.2f} s; "
                "cut both to one length, or check the frame rate",
                "sound of another length",
            )

    def check_masks(self) -> None:
        """Raise ClipError where a mask is missing."""
        if self.masks_missing:
            raise ClipError(
                f"{self.id}: {self.masks_missing} of {2 * self.frames} face and lip masks are missing; make them with "
                "`python -m stableavatar_jax.data prepare`, or pass --missing-masks skip or ones",
                "missing masks",
            )


def open_image(data: bytes, name: str) -> Image.Image:
    """A picture from memory, decoded. Raises ClipError with the name where it is none or damaged."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ClipError(f"{name} is no readable picture ({error}); copy it again") from error
    return image


def kind_of(path: Path, otherwise: Kind | None = None) -> Kind:
    """The kind that a path names (`WORDS`), the part nearest to the clip first; raises ClipError where none does.

    (The release lets a word anywhere in the path win, also in the folders above the data.)
    """
    for part in reversed(path.parts):
        for word, kind in WORDS.items():
            if word in part.lower():
                return kind
    if otherwise:
        return otherwise
    raise ClipError(f"{path}: its path has none of {', '.join(WORDS)}; pass --kind", "unknown kind")


def read_clip(path: Path, name: str = "", kind: Kind | None = None) -> Clip:
    """The clip in a folder or in a video file; `name` is its id (default: the path), `kind` for a path without one."""
    name, kind = name or str(path), kind_of(path, kind)
    return read_folder(path, name, kind) if path.is_dir() else read_video_clip(path, name, kind)


def read_folder(folder: Path, name: str, kind: Kind) -> Clip:
    """A clip as the release lays it out: images/, face_masks/, lip_masks/, audio.wav, sub_clip.mp4.

    sub_clip.mp4 gives the frame rate alone; without it that is the number of images over the length of the sound.
    """
    paths = _numbered(folder / "images")
    sound = folder / "audio.wav"
    with media.open_sound(sound) as opened:
        rate, samples = opened.rate, sum(block.shape[1] for block in opened.blocks)
    if not samples:
        raise ClipError(f"{sound}: there is no sound in it; extract it again", "no sound")
    video = folder / "sub_clip.mp4"
    fps = media.probe(video).fps if video.exists() else len(paths) * rate / samples
    images = tuple(path.read_bytes() for path in paths)
    first = open_image(images[0], str(paths[0]))
    face, lip = (tuple(_content(folder / part / p.name) for p in paths) for part in ("face_masks", "lip_masks"))
    return Clip(
        id=name, kind=kind, fps=fps, frames=len(paths), height=first.height, width=first.width,
        sound_rate=rate, images=images, sound=sound.read_bytes(), face_masks=face, lip_masks=lip,
    )  # fmt: skip


def read_video_clip(path: Path, name: str, kind: Kind) -> Clip:
    """A clip as `prepare` leaves it: a video, its masks in `NAME.masks.zip`, its sound in `NAME.wav` or the video."""
    info = media.probe(path)
    data = path.read_bytes()
    wav = path.with_suffix(".wav")
    sound = wav.read_bytes() if wav.exists() else b""
    with media.open_sound(wav if sound else path) as opened:
        rate = opened.rate
    frames = sum(1 for _ in media.read_video(path, data))  # containers state numbers that are not always true
    face, lip = read_masks(path.with_suffix(MASKS_SUFFIX), frames)
    return Clip(
        id=name, kind=kind, fps=info.fps, frames=frames, height=info.height, width=info.width,
        sound_rate=rate, video=data, sound=sound, face_masks=face, lip_masks=lip,
    )  # fmt: skip


def read_masks(path: Path, frames: int) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Face and lip masks of a video from the file beside it, empty where missing."""
    if not path.exists():
        return (b"",) * frames, (b"",) * frames
    try:
        with zipfile.ZipFile(path) as file:
            names = set(file.namelist())
            read = lambda name: file.read(name) if name in names else b""  # noqa: E731
            face, lip = (
                tuple(read(f"{part}/frame_{i}.png") for i in range(frames)) for part in ("face_masks", "lip_masks")
            )
    except (zipfile.BadZipFile, OSError) as error:
        raise ClipError(f"{path}: the masks cannot be read ({error}); delete it and run prepare again") from error
    return face, lip


def find_clips(source: Path) -> list[Path]:
    """Every clip of a source: a text file with a path a line, or a folder. A folder is what its clips.txt lists, and
    without one it is searched for clip folders and videos.

    Lines are relative to the file's folder. Raises ClipError where there is none, or where a line leads nowhere.
    """
    if (source / CLIP_LIST).is_file():
        source = source / CLIP_LIST
    if source.is_file() and source.suffix == ".txt":
        lines = [line.strip() for line in source.read_text().splitlines()]
        found = [source.parent / line for line in lines if line]
        if lost := next((path for path in found if not path.exists()), None):
            raise ClipError(f"{source}: it lists {lost}, which does not exist")
    elif source.is_dir():
        folders = {path.parent for path in source.rglob("images") if path.is_dir()}
        videos = (p for p in source.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.parent not in folders)
        found = sorted(folders) + sorted(videos)
    else:
        raise ClipError(f"{source}: neither a folder of clips nor a .txt list of them")
    if not found:
        raise ClipError(f"{source}: no clips in it; clips are videos, or folders with images/ and audio.wav")
    return found


def _numbered(folder: Path) -> list[Path]:
    """The pictures of a folder by number: frame_0.png, frame_1.png, ... or 0.png, 1.png, ..."""
    paths = [path for path in folder.glob("*") if path.suffix.lower() in (".png", ".jpg")]
    if not paths:
        raise ClipError(f"{folder}: no .png or .jpg pictures in it")
    numbers = {path: re.fullmatch(r"(?:frame_)?(\d+)", path.stem) for path in paths}
    if odd := next((path for path, number in numbers.items() if number is None), None):
        raise ClipError(f"{odd}: its name has no number; frames are named frame_0.png or 0.png, onwards")
    return sorted(paths, key=lambda path: int(numbers[path][1]))  # type: ignore[index]


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
