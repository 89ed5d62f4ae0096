"""Readers of frames: of characters of the cartoon world, whose looks are known, and of real faces."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stableavatar_jax.data.clips.faces import Face, FaceFinder
from stableavatar_jax.errors import Mistake, need
from stableavatar_jax.evaluation.readings import Faces, Frame
from stableavatar_jax.inputs import check_file
from stableavatar_jax.shapes import Float, UInt8
from stableavatar_jax.world.correlation import FLAT

EVERY = 10
"""Frames from one in which identity is looked at to the next."""
SIZE = 96
"""Pixels of a side at which cartoon characters are looked at: as large as they are made."""
LIP_FLAT = 0.02
"""Shares of the face's height by which the landmarks of still lips move."""
CORNERS = (263, 362, 33, 133, 2)
"""Landmarks of dlib's five points: the corners of the eye on the right of the picture (outer, inner), of that on the
left, and the base of the nose."""


class CartoonReader:
    """Knows the character, and finds its head and mouth by matching renders (`world.measure`)."""

    def __init__(self, seed: int):
        """`seed` is the character's. Raises Mistake without the extra `demo`."""
        need("demo", "skia")
        from stableavatar_jax.world.character import draw_character

        self.character = draw_character(seed)

    def __call__(self, frames: Iterable[Frame]) -> Faces:
        """Mouth and place in every frame, proportions in some."""
        from stableavatar_jax.world.align import find_poses
        from stableavatar_jax.world.identity import LENGTHS, look
        from stableavatar_jax.world.measure import mouth_opening

        small = np.stack([_square(frame) for frame in frames])
        poses = find_poses(small, self.character)
        seen = look(small[::EVERY], self.character, poses[::EVERY]).seen
        return Faces(
            opening=mouth_opening(small, self.character, poses).opening,
            place=np.array([(pose.x, pose.y) for pose in poses]),
            flat=FLAT,
            identity={"proportions": np.concatenate([seen[name] for name in LENGTHS], axis=1)},
        )


class FaceReader:
    """Finds real faces by landmarks (`data.clips.faces`), and tells them apart by dlib's network where it is given."""

    def __init__(self, detector: Path, landmarks: Path, dlib_model: Path | None = None):
        """Load the models. Raises Mistake where one is missing or another model, or a library is not installed."""
        self._finder = FaceFinder(detector, landmarks)
        self._embedder = _load_dlib(dlib_model) if dlib_model else None

    def __call__(self, frames: Iterable[Frame]) -> Faces:
        """Mouth and place in every frame with a face, the face's embedding in some. Raises Mistake without a face."""
        opening, place, known = [], [], []
        shown, looked_at = itertools.tee(frames)
        for number, (frame, face) in enumerate(zip(shown, self._finder.follow(looked_at), strict=True)):
            opening.append(face.mouth if face else np.nan)
            place.append(face.points.mean(0) / frame.shape[1] if face else (np.nan, np.nan))
            if face and self._embedder and number % EVERY == 0:
                known.append(_embed(self._embedder, frame, face))
        if np.isnan(opening).all():
            raise Mistake("no face is found in any frame; leave the face models out to measure colours and sharpness")
        identity = {"CSIM(dlib)": np.array(known)} if known else {}
        return Faces(opening=np.array(opening), place=np.array(place), flat=LIP_FLAT, identity=identity)


def _square(frame: Frame) -> UInt8[np.ndarray, "S S 3"]:
    if frame.shape[0] != frame.shape[1]:
        raise Mistake(f"frames of {frame.shape[1]}x{frame.shape[0]} pixels; characters of the world are square")
    if len(frame) == SIZE:
        return frame
    return np.asarray(Image.fromarray(frame).resize((SIZE, SIZE), Image.Resampling.BOX))


def _load_dlib(path: Path) -> Any:
    check_file(path, "docs/evidence.md says where to get it")
    try:
        import dlib
    except ImportError:
        raise Mistake("identity by dlib's network needs dlib: pip install dlib-bin") from None
    try:
        return dlib.face_recognition_model_v1(str(path))
    except RuntimeError as error:
        raise Mistake(f"{path}: no face recognition model of dlib's ({error}); get it again") from None


def _embed(model: Any, frame: Frame, face: Face) -> Float[np.ndarray, "128"]:
    import dlib

    points = [dlib.point(*np.rint(face.points[k]).astype(int).tolist()) for k in CORNERS]
    (left, top), (right, bottom) = (f(face.points, axis=0).astype(int).tolist() for f in (np.min, np.max))
    shape = dlib.full_object_detection(dlib.rectangle(left, top, right, bottom), points)
    return np.array(model.compute_face_descriptor(np.ascontiguousarray(frame), shape))
