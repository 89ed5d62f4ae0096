"""Where the face and the lips are: MediaPipe's face models run by LiteRT, from files that the user names.

The detector is BlazeFace (short range), the landmark model the 468-point face mesh; `docs/data.md` says where to get
them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from stableavatar_jax.errors import Mistake
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
    def mouth(self) -> float:
        """How far the lips are apart, as a share of the face's height."""
        return float(np.linalg.norm(self.points[MOUTH[0]] - self.points[MOUTH[1]])) / max(self.height, 1e-6)

    @property
    def hull(self) -> Float[np.ndarray, "N 2"]:
        """Corners of the smallest convex shape around the face."""
        return convex_hull(self.points)


class FaceFinder:
    """Follows one face, the surest of the first picture, through a video."""

    def __init__(self, detector: Path, landmarks: Path):
        """Load both models. Raises Mistake where a file is missing or another model, or LiteRT is not installed."""
        self._detector = _Model(detector, "--detector", 128, (len(ANCHORS) * 16, len(ANCHORS)))
        self._landmarks = _Model(landmarks, "--landmarks", 192, (468 * 3, 1))

    def follow(self, frames: Iterator[UInt8[np.ndarray, "H W 3"]]) -> Iterator[Face | None]:
        """The face in each frame: looked for where it was in the frame before, and anew where it is not there."""
        last: Face | None = None
        for frame in frames:
            picture = Image.fromarray(np.ascontiguousarray(frame))
            face = self._measure(picture, _around(last.points)) if last else None
            last = face if face and face.score >= SURE else self.find(picture)
            yield last

    def find(self, picture: Image.Image) -> Face | None:
        """The surest face of an RGB picture: in the whole of it, else in squares half as large (for a small face)."""
        width, height = picture.size
        side = max(width, height)
        tiles = [(0.0, 0.0, float(side))]
        half = min(width, height, side / 2)
        across, down = (np.linspace(0, n - half, max(1, round(2 * n / half) - 1)) for n in (width, height))
        tiles += [(float(x), float(y), half) for y in down for x in across]
        for group in (tiles[:1], tiles[1:]):
            found = [detected for x, y, size in group if (detected := self._detect(picture, x, y, size))]
            if found:
                _, box = max(found, key=lambda detected: detected[0])
                face = self._measure(picture, box)
                if face.score >= SURE:
                    return face
        return None

    def _detect(self, picture: Image.Image, x: float, y: float, size: float) -> tuple[float, "_Box"] | None:
        """Score and landmark box of the surest face in a square of the picture; what lies outside it is black."""
        shown = picture.transform(
            (128, 128), Image.Transform.EXTENT, (x, y, x + size, y + size), Image.Resampling.BILINEAR
        )
        boxes, scores = self._detector(centred(np.asarray(shown)))
        best = int(scores[:, 0].argmax())
        score = float(_sigmoid(scores[best, 0]))
        if score < SURE:
            return None
        values = boxes[best] / 128
        centre = values[:2] + ANCHORS[best]
        turn = values[6:8] - values[4:6]  # from the eye on the left of the picture to that on the right
        return score, _Box(
            centre * size + (x, y), 1.5 * size * float(values[2:4].max()), float(np.arctan2(turn[1], turn[0]))
        )

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


class _Model:
    """A LiteRT model of one picture in and two arrays out, the larger first."""

    def __init__(self, path: Path, option: str, side: int, outputs: tuple[int, int]):
        """`side` is that of the picture in pixels, `outputs` the numbers in the arrays: by them a model is known."""
        if not path.is_file():
            raise Mistake(f"{path}: no such model file; docs/data.md says where to get the face models")
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise Mistake("finding faces needs LiteRT, which the extra `face` has: pip install -e '.[face]'") from None
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise Mistake(f"{path}: LiteRT cannot run it ({str(error).splitlines()[0]}); get it again") from error
        takes = [tuple(each["shape"]) for each in self._interpreter.get_input_details()]
        gives = [int(np.prod(each["shape"])) for each in self._interpreter.get_output_details()]
        if takes != [(1, side, side, 3)] or tuple(sorted(gives, reverse=True)) != outputs:
            raise Mistake(
                f"{path}: another model than {option} needs (it takes {takes[0]} and gives {gives} numbers); "
                "docs/data.md says which file goes with which option"
            )

    @cached_property
    def _outputs(self) -> list[int]:
        details = self._interpreter.get_output_details()
        return [out["index"] for out in sorted(details, key=lambda out: -int(np.prod(out["shape"])))]

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (inputs,) = self._interpreter.get_input_details()
        self._interpreter.set_tensor(inputs["index"], picture[None].astype(np.float32))
        self._interpreter.invoke()
        large, small = (self._interpreter.get_tensor(index)[0] for index in self._outputs)
        return large, small
