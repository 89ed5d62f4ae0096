"""The reference picture: read from any kind of file, fitted to the video's frame."""

import io
import logging
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from stableavatar_jax.errors import Mistake
from stableavatar_jax.media.files import check_file
from stableavatar_jax.media.metadata import without_metadata
from stableavatar_jax.media.pixels import centred
from stableavatar_jax.shapes import Float, UInt8
from stableavatar_jax.whole import whole

Fit = Literal["cover", "stretch"]

MIN_SIDE = 64
"""Pixels. The frame is 480 or more on its short side: below this, a face is a few pixels blown up eightfold."""
MAX_ASPECT = 4.0
"""Long side over short side. The widest frame has 832/480 = 1.7, so covering it would keep less than half of more."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation; 1 is upright."""

LOG = logging.getLogger(__name__)


def read_picture(path: Path) -> Image.Image:
    """The picture in a file as 8-bit RGB: upright by its EXIF tag, on white where it is transparent.

    Greyscale, palette, CMYK and 16-bit files are converted; of an animation the first frame is taken; the file's
    name and colour profile play no part. Where the tag cannot be read the picture is taken as it is stored, with a
    notice. Raises Mistake where the file holds no whole picture, or one whose size is of no use (`MIN_SIDE`,
    `MAX_ASPECT`).
    """
    check_file(path)
    content = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large pictures that are taken, and of metadata
        try:
            image, orientation = _decode(path, content)
        except Mistake:
            raise
        except Exception as error:  # each format's decoder has its own: OSError, SyntaxError, struct.error, ...
            try:
                image, orientation = _decode(path, without_metadata(content))
            except Exception:
                raise Mistake(
                    f"{path}: the picture is damaged or cut off ({error}); copy it again or save it anew from the "
                    "original"
                ) from error
        if orientation is None:
            LOG.warning("%s: its EXIF data is broken, so the picture is taken as it is stored", path)
        return _as_rgb(path, image.transpose(TURNS[orientation]) if orientation in TURNS else image)


def as_picture(image: Image.Image, name: str = "the picture") -> Image.Image:
    """A picture in memory as `read_picture` would give it: 8-bit RGB, upright, on white. Mistakes carry `name`."""
    _check_size(Path(name), *image.size)
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return _as_rgb(Path(name), image.transpose(TURNS[orientation]) if orientation in TURNS else image)


def fit_picture(
    image: Image.Image, height: int, width: int, fit: Fit = "cover", crop: float = 0.5
) -> Float[np.ndarray, "{height} {width} 3"]:
    """The picture at a frame's size, float32 in -1..1 (Pillow's bicubic with antialiasing, in 8 bit).

    "cover" keeps the proportions and cuts off what lies outside the frame's: `crop` is the share of it that is cut
    off at the left or top, 0 to 1 (0.5 cuts alike on both sides). "stretch" fits the whole picture in, as the
    release does.
    """
    box = cover_box(image.width, image.height, width / height, crop) if fit == "cover" else None
    return centred(np.asarray(resized(image.convert("RGB"), height, width, box)))


def resized(
    image: Image.Image, height: int, width: int, box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """The picture, or a box of it, at another size (Pillow's bicubic with antialiasing, in 8 bit).

    Pillow rounds between its two passes. Where a picture becomes wider and lower, Pillow 13 makes it lower first and
    older ones wider first; this is Pillow 13's order with any of them.
    """
    left, top, right, bottom = box or (0, 0, *image.size)
    if width > right - left and height < bottom - top:
        image = image.resize((image.width, height), Image.Resampling.BICUBIC, box=(0, top, image.width, bottom))
        box = (left, 0, right, height)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)


def cover_box(width: int, height: int, aspect: float, crop: float) -> tuple[float, float, float, float]:
    """The area of a picture that has the aspect width/height: (left, top, right, bottom) in pixels.

    `crop` is the share of what is cut off that goes at the left or top.
    """
    kept_width = min(width, height * aspect)
    kept_height = min(height, width / aspect)
    left, top = crop * (width - kept_width), crop * (height - kept_height)
    return left, top, left + kept_width, top + kept_height


def enlarge(frames: UInt8[np.ndarray, "T H W 3"], times: int) -> UInt8[np.ndarray, "T H2 W2 3"]:
    """Frames so many times as high and wide (Lanczos)."""
    if times == 1:
        return frames
    size = (frames.shape[2] * times, frames.shape[1] * times)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in frames])


def _decode(path: Path, content: bytes) -> tuple[Image.Image, int | None]:
    """The picture with its pixels decoded, and the number of its EXIF orientation, None where that is broken."""
    try:
        image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError as error:
        raise Mistake(f"{path}: the picture has far more pixels than are needed; scale it down") from error
    except UnidentifiedImageError as error:
        if without_metadata(content) != content:
            raise
        raise Mistake(f"{path}: not a picture Pillow can read; save it as PNG or JPEG") from error
    _check_size(path, *image.size)
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # it is parsed here for the first time, by code that raises whatever it meets
        return image, None
    return image, orientation if orientation in TURNS or orientation == 1 else None


def _check_size(path: Path, width: int, height: int) -> None:
    short, long = sorted((width, height))
    if long > MAX_ASPECT * short:
        raise Mistake(
            f"{path}: the picture is {width}x{height} pixels, a strip; crop it to a portrait "
            f"(at most {MAX_ASPECT:g} times as long as it is short)"
        )
    if short < MIN_SIDE:
        raise Mistake(
            f"{path}: the picture is {width}x{height} pixels, too small to show a face; "
            f"give one with at least {MIN_SIDE} on its short side, better 512"
        )


def _as_rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow's own conversion cuts everything above 255 to white
        return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise Mistake(f"{path}: the picture has 32 bits a pixel and no stated range; save it as 8-bit PNG or JPEG")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def write_picture(path: Path, picture: UInt8[np.ndarray, "H W 3"] | Image.Image) -> None:
    """Write a picture in the format of its name's ending; its folder is made. Raises Mistake where that cannot be."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise Mistake(f"{path}: {path.suffix or 'no ending'!r} names no picture format; give a name that ends in .png")
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        image.save(partial, kind, optimize=True)
