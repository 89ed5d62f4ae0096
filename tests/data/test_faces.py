"""The face finder: its geometry, and what the real models find where they are at hand."""


import numpy as np
import pytest
from PIL import Image

from stableavatar_jax.data.clips import faces


def test_the_hull_goes_around():
    points = np.array([[0, 0], [4, 0], [4, 4], [0, 4], [2, 2], [1, 3]], np.float32)
    assert {tuple(corner) for corner in faces.convex_hull(points)} == {(0, 0), (4, 0), (4, 4), (0, 4)}


def test_no_face_no_mask():
    assert all(not np.asarray(mask).any() for mask in faces.face_masks(None, (8, 6), 0.1))


def test_anchors_are_those_of_the_detector():
    assert faces.ANCHORS.shape == (896, 2)
    np.testing.assert_allclose(faces.ANCHORS[[0, 2, 511, 512, 895]] * 16,
                               [[0.5, 0.5], [1.5, 0.5], [15.5, 15.5], [1, 1], [15, 15]])


@pytest.fixture(scope="module")
def real(shared):
    pytest.importorskip("ai_edge_litert", reason="the face models run in LiteRT: pip install -e '.[face]'")
    models = shared / "models"
    return faces.FaceFinder(models / "face_detection_short_range.tflite", models / "face_landmark.tflite")


def test_a_real_face_is_found(real, shared):
    """Where MediaPipe 0.10.21 finds it: lips x 202-245, y 139-155, face x 179-271, y 71-177."""
    with Image.open(shared / "data" / "portraits" / "photo-woman-02.png") as image:
        face = real.find(image.convert("RGB"))
        small = Image.new("RGB", (1600, 1600))
        small.paste(image.convert("RGB").resize((800, 800)), (700, 100))
    lips = face.points[list(faces.OUTER_LIPS)]
    np.testing.assert_allclose([*lips.min(0), *lips.max(0)], [202, 139, 245, 155], atol=3)
    np.testing.assert_allclose([*face.points.min(0), *face.points.max(0)], [179, 71, 271, 177], atol=4)
    expected = face.points * 800 / 512 + (700, 100)
    assert np.abs(real.find(small).points - expected).mean() < 3, "a small face is found in a part of the picture"


def test_a_dog_has_no_face(real, shared):
    with Image.open(shared / "data" / "portraits" / "animal-01.jpg") as image:
        assert real.find(image.convert("RGB")) is None
