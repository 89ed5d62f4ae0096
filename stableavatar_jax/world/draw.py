"""A character in a pose as a picture, drawn with skia, and the masks of its face and lips."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import skia

from stableavatar_jax.world.character import Character
from stableavatar_jax.world.face import Pose, draw_head, head_path, lip_region, tilt_point
from stableavatar_jax.world.paint import fill
from stableavatar_jax.world.scenery import draw_background, draw_body
from stableavatar_jax.world.trimmings import draw_behind, draw_hair, draw_hat

__all__ = ["Pose", "masks", "render"]

Scene = Callable[[skia.Canvas, Character, Pose], None]


def render(character: Character, pose: Pose, size: int = 96) -> np.ndarray:
    """The picture, uint8 RGB `[size, size, 3]`."""
    return _painted(_draw_all, character, pose, size)


def masks(character: Character, pose: Pose, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Where face and lips are, uint8 `[size, size]`, 255 inside; the lips' region holds the mouth at any opening."""
    face, lips = (_painted(scene, character, pose, size)[..., 0].copy() for scene in (_draw_face, _draw_lips))
    return face, lips


def _draw_all(canvas: skia.Canvas, character: Character, pose: Pose) -> None:
    draw_background(canvas, character)
    with _head(canvas, character, pose):
        draw_behind(canvas, character)
    draw_body(canvas, character)
    with _head(canvas, character, pose):
        draw_head(canvas, character, pose)
        draw_hair(canvas, character)
        draw_hat(canvas, character)
    tint = (255, 150, 60) if character.warmth > 0 else (60, 120, 255)
    canvas.drawPaint(fill(tint, 0.08 * abs(character.warmth)))


def _draw_face(canvas: skia.Canvas, character: Character, pose: Pose) -> None:
    with _head(canvas, character, pose):
        canvas.drawPath(head_path(character, 1.0), fill((255, 255, 255)))


def _draw_lips(canvas: skia.Canvas, character: Character, pose: Pose) -> None:
    with _head(canvas, character, pose):
        canvas.drawRRect(skia.RRect.MakeRectXY(lip_region(character), 0.03, 0.03), fill((255, 255, 255)))


@contextlib.contextmanager
def _head(canvas: skia.Canvas, character: Character, pose: Pose) -> Iterator[None]:
    canvas.save()
    canvas.translate(pose.x, pose.y)
    canvas.rotate(pose.roll, *tilt_point(character))
    yield
    canvas.restore()


def _painted(scene: Scene, character: Character, pose: Pose, size: int) -> np.ndarray:
    pixels = np.zeros((size, size, 4), np.uint8)
    surface = skia.Surface.MakeRasterDirect(
        skia.ImageInfo.Make(size, size, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType), pixels, 4 * size
    )
    canvas = surface.getCanvas()
    canvas.scale(size, size)
    scene(canvas, character, pose)
    surface.flushAndSubmit()
    return pixels[..., :3].copy()
