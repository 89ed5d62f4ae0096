"""Everyone in a clip, and for whom of them its masks are made."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stableavatar_jax.data.clips.faces import Face, FaceFinder, face_masks, same_place
from stableavatar_jax.errors import Mistake
from stableavatar_jax.media import read_picture
from stableavatar_jax.shapes import Bool, UInt8
from stableavatar_jax.words import count

LOOK_EVERY = 25
"""Frames from one in which new faces are looked for to the next."""
SEEN = 0.1
"""Share of a clip's frames in which a face must be for somebody to be in the clip."""
INSIDE = 0.5
"""Share of a face that must lie in the white of a mask."""
NO_SUCH_FACE = "no such face"
"""The reason of a Mistake about a clip without the face that was asked for."""


@dataclass(frozen=True)
class Person:
    """One of those who are in a clip."""

    faces: tuple[Face | None, ...]
    """Their face in each frame; None where it is not found."""

    @property
    def found(self) -> list[Face]:
        """The faces that are there."""
        return [face for face in self.faces if face]

    @property
    def area(self) -> float:
        """Mean number of pixels of the face over all frames, none where it is not found."""
        return sum(face.area for face in self.found) / max(len(self.faces), 1)


def everyone(finder: FaceFinder, frames: Iterator[UInt8[np.ndarray, "H W 3"]]) -> list[Person]:
    """Those whose face is in a tenth of a video's frames or more, from the left of the picture to the right.

    Each face is followed from frame to frame. New ones are looked for in every 25th frame, and where a face was lost.
    Without such a face: one person whose face is in few frames, or in none.
    """
    tracks: list[dict[int, Face]] = []
    number = -1
    for number, frame in enumerate(frames):
        picture = Image.fromarray(np.ascontiguousarray(frame))
        for track in tracks:
            last = track.get(number - 1)
            if last and (face := finder.again(picture, last)) and not _taken(face, tracks, number):
                track[number] = face
        present = [number in track for track in tracks]
        lost = any(number - 1 in track and number not in track for track in tracks)
        if number % LOOK_EVERY == 0 or lost or not any(present):
            for face in finder.find_all(picture):
                if not _taken(face, tracks, number):
                    _track_of(face, tracks, number)[number] = face
    people = [Person(tuple(track.get(n) for n in range(number + 1))) for track in tracks]
    often = [each for each in people if len(each.found) >= SEEN * (number + 1)]
    often = often or [max(people, key=lambda each: len(each.found), default=Person((None,) * (number + 1)))]
    return sorted(often, key=lambda each: np.mean([face.middle[0] for face in each.found]) if each.found else 0)


def choose(people: list[Person], path: Path, face: int | None, white: Bool[np.ndarray, "h w"] | None,
           size: tuple[int, int]) -> int:  # fmt: skip
    """Which of the people of a clip of so many rows and columns the masks are for: face number `face` from the left,
    or who has most of the face in the white of a mask; without either the one with the largest mean area.

    Raises Mistake where there is no such face.
    """
    if face is not None:
        if not people[0].found or face > len(people):
            there = count(len(people) if people[0].found else 0, "face")
            raise Mistake(f"{path}: it shows {there}, and --face {face} is asked for", NO_SUCH_FACE)
        return face - 1
    if white is not None:
        inside = [float(np.mean([_share(each, white, size) for each in one.found] or [0])) for one in people]
        if max(inside) < INSIDE:
            raise Mistake(f"{path}: no face lies in the white of its mask; draw it around the speaker", NO_SUCH_FACE)
        return int(np.argmax(inside))
    return int(np.argmax([each.area for each in people]))


def mask_path(mask: Path | None, name: str) -> Path | None:
    """The mask of a clip: `mask`, or NAME.png in it where it is a folder; None where there is none."""
    if mask is None or mask.is_file():
        return mask
    path = mask / Path(name).with_suffix(".png")
    return path if path.exists() else None


def read_mask(path: Path) -> Bool[np.ndarray, "h w"]:
    """Where a picture is rather white than black. Raises Mistake where it is neither anywhere."""
    white = np.asarray(read_picture(path).convert("L")) >= 128
    if white.all() or not white.any():
        raise Mistake(f"{path}: a mask is white where the speaker is and black elsewhere; this one has one colour")
    return white


def write_masks(file: zipfile.ZipFile, faces: tuple[Face | None, ...], size: tuple[int, int], grow: float) -> None:
    """The face and the lip mask of each frame, of so many rows and columns, as PNG."""
    for number, face in enumerate(faces):
        for part, mask in zip(("face_masks", "lip_masks"), face_masks(face, size, grow), strict=True):
            png = io.BytesIO()
            mask.save(png, "PNG")
            file.writestr(f"{part}/frame_{number}.png", png.getvalue())


def _taken(face: Face, tracks: list[dict[int, Face]], number: int) -> bool:
    return any(same_place(face, track[number]) for track in tracks if number in track)


def _track_of(face: Face, tracks: list[dict[int, Face]], number: int) -> dict[int, Face]:
    """Whose a found face is: theirs who were lost nearest to it, or somebody new's.

    A face that was lost comes back at most its height away, unless it is the only one so far.
    """
    lost = [track for track in tracks if number not in track]
    last = [track[max(track)] for track in lost]
    away = [float(np.linalg.norm(face.middle - each.middle)) for each in last]
    if away:
        nearest = int(np.argmin(away))
        if len(tracks) == 1 or away[nearest] < last[nearest].height:
            return lost[nearest]
    tracks.append({})
    return tracks[-1]


def _share(face: Face, white: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> float:
    """Share of the landmarks that lie in the white of a mask, which may be larger or smaller than the frame."""
    scale = np.array(white.shape[::-1]) / np.array(size[::-1])
    columns, rows = np.clip((face.points * scale).astype(int), 0, np.array(white.shape[::-1]) - 1).T
    return float(white[rows, columns].mean())
