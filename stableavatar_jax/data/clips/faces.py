"""Where the face and the lips are: MediaPipe's face models run by LiteRT, from files that the user names.

The detector is BlazeFace (short range), the landmark model the 468-point face mesh; `docs/data.md` says where to get
them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from stableavatar_jax.data.clips.litert import Model
from stableavatar_jax.media import centred
from stableavatar_jax.shapes import Float, UInt8

OUTER_LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
)  # fmt: skip
"""Landmarks around the lips, in order."""
MOUTH = (13, 14)
"""Middle of the upper and of the lower lip, inside."""
FOREHEAD, CHIN = 10, 152

SURE = 0.5
"""Score, 0 to 1, from which a face counts as found."""

OVERLAP = 0.25
"""Share of the smaller one's rectangle that two faces of different people do not have in common."""


@dataclass(frozen=True)
class Face:
    """The face in one picture."""

    score: float
    """0 to 1: how sure the landmark model is."""
    points: Float[np.ndarray, "468 2"]
    """x, y in pixels of the picture."""

    @property
    def height(self) -> float:
        """Forehead to chin, in pixels."""
        return float(np.linalg.norm(self.points[FOREHEAD] - self.points[CHIN]))

    @property
    def middle(self) -> Float[np.ndarray, "2"]:
        """Mean of the landmarks, in pixels."""
        return self.points.mean(0)

    @property
    def area(self) -> float:
        """Pixels of the upright rectangle around it."""
        return float(np.prod(np.ptp(self.points, axis=0)))

    @property
    def mouth(self) -> float:
        """How far the lips are apart, as a share of the face's height."""
        return float(np.linalg.norm(self.points[MOUTH[0]] - self.points[MOUTH[1]])) / max(self.height, 1e-6)

    @property
    def hull(self) -> Float[np.ndarray, "N 2"]:
        """Corners of the smallest convex shape around the face."""
        return convex_hull(self.points)


class FaceFinder:
    """Finds faces in a picture, and follows one through a video."""

    def __init__(self, detector: Path, landmarks: Path):
        """Load both models. Raises Mistake where a file is missing or another model, or LiteRT is not installed."""
        self._detector = Model(detector, "--detector", 128, (len(ANCHORS) * 16, len(ANCHORS)))
        self._landmarks = Model(landmarks, "--landmarks", 192, (468 * 3, 1))

    def follow(self, frames: Iterator[UInt8[np.ndarray, "H W 3"]]) -> Iterator[Face | None]:
        """The surest face of the first frame, in each frame: looked for where it was in the frame before, and anew
        where it is not there."""
        last: Face | None = None
        for frame in frames:
            picture = Image.fromarray(np.ascontiguousarray(frame))
            last = (self.again(picture, last) if last else None) or self.find(picture)
            yield last

    def again(self, picture: Image.Image, face: Face) -> Face | None:
        """A face of the frame before in this one, None where it is not at that place any more."""
        found = self._measure(picture, _around(face.points))
        return found if found.score >= SURE else None

    def find(self, picture: Image.Image) -> Face | None:
        """The surest face of an RGB picture: in the whole of it, else in squares half as large (for a small face)."""
        for squares in _squares(*picture.size):
            found = [detected for square in squares for detected in self._detect(picture, *square)[:1]]
            if found:
                face = self._measure(picture, max(found, key=_score)[1])
                if face.score >= SURE:
                    return face
        return None

    def find_all(self, picture: Image.Image) -> list[Face]:
        """All faces of an RGB picture, those found in the whole of it first, the surest first."""
        faces: list[Face] = []
        for squares in _squares(*picture.size):
            boxes: list[_Box] = []
            for _, box in sorted((d for square in squares for d in self._detect(picture, *square)), key=_score)[::-1]:
                if any(np.linalg.norm(box.centre - each.centre) < each.side / 3 for each in boxes):
                    continue  # a guess beside a surer one
                boxes.append(box)
                face = self._measure(picture, box)
                if face.score >= SURE and not any(same_place(face, each) for each in faces):
                    faces.append(face)
        return faces

    def _detect(self, picture: Image.Image, x: float, y: float, size: float) -> list[tuple[float, "_Box"]]:
        """Scores and landmark boxes of guesses at faces in a square of the picture, the surest first; what lies outside
        the picture is black."""
        shown = picture.transform(
            (128, 128), Image.Transform.EXTENT, (x, y, x + size, y + size), Image.Resampling.BILINEAR
        )
        boxes, scores = self._detector(centred(np.asarray(shown)))
        found = []
        for guess in np.argsort(-scores[:, 0], kind="stable"):
            if (score := float(_sigmoid(scores[guess, 0]))) < SURE:
                break
            values = boxes[guess] / 128
            centre = values[:2] + ANCHORS[guess]
            turn = values[6:8] - values[4:6]  # from the eye on the left of the picture to that on the right
            side, angle = 1.5 * size * float(values[2:4].max()), float(np.arctan2(turn[1], turn[0]))
            found.append((score, _Box(centre * size + (x, y), side, angle)))
        return found

    def _measure(self, picture: Image.Image, box: "_Box") -> Face:
        """The landmarks in a square of the picture."""
        side = 192
        axes = box.axes / side
        corner = box.centre - axes @ np.array([side / 2, side / 2])
        affine = (axes[0, 0], axes[0, 1], corner[0], axes[1, 0], axes[1, 1], corner[1])
        crop = picture.transform((side, side), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        points, score = self._landmarks(np.asarray(crop, np.float32) / 255)
        points = points.reshape(468, 3)[:, :2]
        return Face(float(_sigmoid(score.reshape(()))), (points @ axes.T + corner).astype(np.float32))


@dataclass(frozen=True)
class _Box:
    """A turned square: centre in pixels, side in pixels, angle in radians by which its x axis is turned."""

    centre: np.ndarray
    side: float
    angle: float

    @property
    def axes(self) -> np.ndarray:
        """Columns: the square's x and y edges, in pixels of the picture."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return self.side * np.array([[cos, -sin], [sin, cos]])


def same_place(a: Face, b: Face) -> bool:
    """Whether two faces of one picture are one: a quarter of the smaller one's rectangle lies in the other's."""
    low, high = (f([f(each.points, axis=0) for each in (a, b)], axis=0) for f in (np.min, np.max))
    common = np.ptp(a.points, axis=0) + np.ptp(b.points, axis=0) - (high - low)  # below 0 where they are apart
    return float(np.prod(np.maximum(common, 0))) > OVERLAP * min(a.area, b.area)


def _squares(width: int, height: int) -> tuple[list[tuple[float, float, float]], ...]:
    """x, y and side of the squares that the detector looks at: the whole picture; then halves of its longer side."""
    side = max(width, height)
    half = float(min(width, height, side / 2))
    across, down = (np.linspace(0, n - half, max(1, round(2 * n / half) - 1)) for n in (width, height))
    return [(0.0, 0.0, float(side))], [(float(x), float(y), half) for y in down for x in across]


def _score(detected: tuple[float, "_Box"]) -> float:
    return detected[0]


def _around(points: np.ndarray) -> _Box:
    """The square that shows a face with these landmarks, eyes level."""
    turn = points[263] - points[33]  # outer corners of the eyes
    low, high = points.min(0), points.max(0)
    return _Box((low + high) / 2, 1.5 * float((high - low).max()), float(np.arctan2(turn[1], turn[0])))


def _anchors() -> np.ndarray:
    """Centres of BlazeFace's 896 guesses, 0 to 1: two for each place of a 16x16 grid, then six of an 8x8 one."""
    grids = []
    for side, times in ((16, 2), (8, 6)):
        y, x = np.mgrid[:side, :side]
        grids.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), times, 0) / side + 0.5 / side)
    return np.concatenate(grids).astype(np.float32)


ANCHORS = _anchors()


def face_masks(face: Face | None, size: tuple[int, int], grow: float) -> tuple[Image.Image, Image.Image]:
    """Face and lip mask of a frame of so many rows and columns; black where no face was found.

    They are the face's convex hull and the outline of the lips, each `grow` larger than it is.
    """
    masks = Image.new("L", size[::-1]), Image.new("L", size[::-1])
    if face:
        for mask, outline in zip(masks, (face.hull, face.points[list(OUTER_LIPS)]), strict=True):
            centre = outline.mean(0)
            corners = (outline - centre) * (1 + grow) + centre
            ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in corners], fill=255)
    return masks


def convex_hull(points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "M 2"]:
    """Corners of the convex hull in order (Andrew's monotone chain)."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]
    chains = []
    for run in (ordered, ordered[::-1]):
        chain: list[np.ndarray] = []
        for point in run:
            while len(chain) > 1 and _cross(chain[-1] - chain[-2], point - chain[-1]) <= 0:
                chain.pop()
            chain.append(point)
        chains += chain[:-1]
    return np.array(chains)


def _cross(a: np.ndarray, b: np.ndarray) -> float:
    return float(a[0] * b[1] - a[1] * b[0])


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))
