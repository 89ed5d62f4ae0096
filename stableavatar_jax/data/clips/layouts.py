"""Clips as they lie in folders: the release's layout, and videos with masks beside them."""

import codecs
import json
import re
import zipfile
from pathlib import Path

from stableavatar_jax import media
from stableavatar_jax.data.clips.clip import Clip, Kind, open_image
from stableavatar_jax.errors import Mistake

WORDS: dict[str, Kind] = {"singing": "singing", "speech": "talking", "talking": "talking", "dancing": "dancing"}
"""What a path says of the kind, in the release's order; `talking` is ours."""

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v"}
CLIP_LIST = "clips.txt"
"""In a folder, the list of the clips to use."""
QUALITY_SUFFIX = ".quality.json"
"""`talk.mp4` was measured by `prepare` in `talk.quality.json`."""
MASKS_SUFFIX = ".masks.zip"
"""`talk.mp4` has its masks in `talk.masks.zip`, as face_masks/frame_0.png and lip_masks/frame_0.png onwards."""


def kind_of(name: str, source: Path | None = None) -> Kind | None:
    """The kind that a clip's name says (`WORDS`), or else the folder or list it was found in; None where none does.

    The folder nearest to the clip counts. (In the release a word anywhere in the path wins, also far above the
    data.)
    """
    parts = Path(name).parts if source is None else (source.absolute().name, *Path(name).parts)
    for part in reversed(parts):
        for word, kind in WORDS.items():
            if word in part.lower():
                return kind
    return None


def read_clip(path: Path, name: str, kind: Kind) -> Clip:
    """The clip in a folder or in a video file; `name` is to be its id."""
    check_name(path, name)
    return read_folder(path, name, kind) if path.is_dir() else read_video_clip(path, name, kind)


def check_name(path: Path, name: str) -> None:
    """Raise Mistake for a name that a list of clips, a line for each in UTF-8, cannot hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Mistake(f"{path}: its name is not in UTF-8; rename it", "bad name") from None
    if len(name.splitlines()) != 1 or name != name.strip():
        raise Mistake(f"{path}: its name begins or ends with a space, or has a line break; rename it", "bad name")


def read_folder(folder: Path, name: str, kind: Kind) -> Clip:
    """A clip as the release lays it out: images/, face_masks/, lip_masks/, audio.wav, sub_clip.mp4.

    sub_clip.mp4 gives the frame rate alone; without it that is the number of images over the length of the sound.
    """
    paths = _numbered(folder / "images")
    sound = folder / "audio.wav"
    with media.open_sound(sound) as opened:
        rate, samples = opened.rate, sum(block.shape[1] for block in opened.blocks)
    if not samples:
        raise Mistake(f"{sound}: there is no sound in it; extract it again", "no sound")
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
    # Containers state numbers of frames that are not always true.
    frames = _counted(path, len(data)) or sum(1 for _ in media.read_video(path, data))
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
    except Exception as error:  # of zipfile and of what it decompresses with: BadZipFile, zlib.error, RuntimeError, ...
        raise Mistake(f"{path}: the masks cannot be read ({error}); delete it and run prepare again") from error
    return face, lip


def has_masks(path: Path) -> bool:
    """Whether there are any masks with a clip, in a folder or a video file; none is read."""
    return any(path.glob("*_masks/*")) if path.is_dir() else path.with_suffix(MASKS_SUFFIX).exists()


def named_clips(source: Path) -> dict[str, Path]:
    """Every clip of a source (`find_clips`), by its name: where it lies under the source's folder."""
    root = source if source.is_dir() else source.parent
    return {str(p.relative_to(root)) if p.is_relative_to(root) else str(p): p for p in find_clips(source)}


def find_clips(source: Path) -> list[Path]:
    """Every clip of a source: a text file with a path a line, or a folder. A folder is what its clips.txt lists, and
    without one it is searched for clip folders and videos.

    Lines are relative to the file's folder. Raises Mistake where there is none, or where a line leads nowhere.
    """
    if (source / CLIP_LIST).is_file():
        source = source / CLIP_LIST
    if source.is_file() and source.suffix == ".txt":
        found = []
        for number, line in enumerate(read_list(source), 1):
            if line.strip():
                found.append(source.parent / line.strip())
                if not found[-1].exists():
                    raise Mistake(f"{source}: line {number} lists {line.strip()!r}, and {found[-1]} does not exist")
    elif source.is_dir():
        folders = {path.parent for path in source.rglob("images") if path.is_dir()}
        videos = (p for p in source.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.parent not in folders)
        found = sorted(folders) + sorted(videos)
    else:
        raise Mistake(f"{source}: neither a folder of clips nor a .txt list of them")
    if not found:
        raise Mistake(f"{source}: no clips in it; clips are videos, or folders with images/ and audio.wav")
    return found


def read_list(path: Path) -> list[str]:
    """The lines of a list, in UTF-8 or, by its first bytes, UTF-16. Raises Mistake with the line that is in neither."""
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        return content.decode(encoding).splitlines()
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise Mistake(
            f"{path}: line {number} is not in UTF-8 ({content[error.start : error.end]!r}); save the list as UTF-8"
        ) from None


def _counted(path: Path, size: int) -> int | None:
    """The frames that `prepare` counted in this very file."""
    try:
        found = json.loads(path.with_suffix(QUALITY_SUFFIX).read_text())
        return found["quality"]["frames"] if found["bytes"] == size else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _numbered(folder: Path) -> list[Path]:
    """The pictures of a folder by number: frame_0.png, frame_1.png, ... or 0.png, 1.png, ..."""
    paths = [path for path in folder.glob("*") if path.suffix.lower() in (".png", ".jpg")]
    if not paths:
        raise Mistake(f"{folder}: no .png or .jpg pictures in it")
    numbers = {path: re.fullmatch(r"(?:frame_)?(\d+)", path.stem) for path in paths}
    if odd := next((path for path, number in numbers.items() if number is None), None):
        raise Mistake(f"{odd}: its name has no number; frames are named frame_0.png or 0.png, onwards")
    return sorted(paths, key=lambda path: int(numbers[path][1]))  # type: ignore[index]


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
