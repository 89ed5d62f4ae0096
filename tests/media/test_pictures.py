"""Pictures out of files, and fitted to a frame."""

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from tests.media import made


def test_a_picture_of_the_frames_size_is_itself():
    picture = made.gradient(64, 96)
    for fit in ("cover", "stretch"):
        fitted = media.fit_picture(Image.fromarray(picture), 64, 96, fit)
        assert fitted.dtype == np.float32
        np.testing.assert_allclose(fitted, picture / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(("size", "kept"), [((100, 300), np.s_[100:200, :]), ((300, 100), np.s_[:, 100:200])])
def test_cover_keeps_the_middle(size, kept):
    picture = made.gradient(size[1], size[0])
    fitted = media.fit_picture(Image.fromarray(picture), 100, 100)
    np.testing.assert_allclose(fitted, picture[kept] / 127.5 - 1, atol=1e-6)


def test_crop_says_what_is_kept():
    picture = made.gradient(300, 100)
    top = media.fit_picture(Image.fromarray(picture), 100, 100, crop=0.0)
    bottom = media.fit_picture(Image.fromarray(picture), 100, 100, crop=1.0)
    np.testing.assert_allclose(top, picture[:100] / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(bottom, picture[200:] / 127.5 - 1, atol=1e-6)


def test_stretch_shows_the_whole_picture():
    fitted = media.fit_picture(Image.fromarray(made.gradient(200, 100)), 64, 64, "stretch")
    np.testing.assert_allclose(fitted, made.gradient(64, 64) / 127.5 - 1, atol=4 / 127.5)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    levels = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    picture = np.asarray(media.read_picture(tmp_path / "grey.png"))
    np.testing.assert_array_equal(picture, np.rint(levels / 257)[..., None].repeat(3, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path, orientation):
    upright = made.gradient(64, 80)
    turned = {2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]}.get(orientation, upright)
    if orientation > 4:  # stored on its side
        turned = {5: upright, 6: upright[:, ::-1], 7: upright[::-1, ::-1], 8: upright[::-1]}[orientation]
        turned = turned.transpose(1, 0, 2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(turned).save(tmp_path / "phone.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(media.read_picture(tmp_path / "phone.png")), upright)


def test_transparent_palette_is_on_white(tmp_path):
    image = Image.fromarray(made.gradient(64, 64)).quantize(16)
    image.save(tmp_path / "palette.png", transparency=0)
    clear = np.asarray(image) == 0
    picture = np.asarray(media.read_picture(tmp_path / "palette.png"))
    assert clear.any()
    np.testing.assert_array_equal(picture[clear], 255)
    np.testing.assert_array_equal(picture[~clear], np.asarray(image.convert("RGB"))[~clear])


def test_pictures_refused(tmp_path):
    Image.fromarray(np.zeros((64, 64), np.float32)).save(tmp_path / "float.tif")
    for path, words in (
        (tmp_path / "none.png", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "float.tif", "save it as 8-bit"),
    ):
        with pytest.raises(Mistake, match=words) as refusal:
            media.read_picture(path)
        assert str(path) in str(refusal.value)
