"""Pictures out of files, and fitted to a frame."""

import os
import struct
import zlib
from pathlib import Path

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


def chunk(name, content, crc=None):
    """A chunk of a PNG."""
    crc = zlib.crc32(name + content) if crc is None else crc
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


BROKEN = {
    "EXIF that is none": chunk(b"eXIf", b"nonsense"),
    "EXIF cut short": chunk(b"eXIf", b"II*\0\x08\0\0\0\x05\0\x12\x01"),
    "EXIF of another type": chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\2\0\4\0\0\0abc\0\0\0\0\0"),
    "an orientation of 77": chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0M\0\0\0\0\0\0\0"),
    "a wrong checksum": chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0", crc=1),
    "a broken profile": chunk(b"iCCP", b"x\0\0nonsense"),
    "a broken text": chunk(b"zTXt", b"x\0\0nonsense"),
    "a text with a wrong checksum": chunk(b"tEXt", b"a\0b", crc=1),
    "a length beyond the end": struct.pack(">I", 1 << 30) + b"eXIf" + b"II*\0",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_png_with_a_broken_description_is_read(tmp_path, what, recwarn):
    pixels = made.gradient(64, 80)
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    for place in (33, len(whole) - 12):  # after the header, and after the pixels
        (tmp_path / "broken.png").write_bytes(whole[:place] + BROKEN[what] + whole[place:])
        np.testing.assert_array_equal(np.asarray(media.read_picture(tmp_path / "broken.png")), pixels)
    assert not recwarn.list


@pytest.mark.parametrize("ending", ["webp", "jpg"])
@pytest.mark.parametrize("exif", [b"nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\5\1\x12", b"Exif\0\0II*\0\xff\xff\0\0"])
def test_broken_exif_leaves_the_picture_as_it_is_stored(tmp_path, caplog, ending, exif):
    image = Image.fromarray(made.gradient(64, 80))
    image.save(tmp_path / f"plain.{ending}", lossless=True)
    image.save(tmp_path / f"broken.{ending}", lossless=True, exif=exif)
    plain = media.read_picture(tmp_path / f"plain.{ending}")
    np.testing.assert_array_equal(media.read_picture(tmp_path / f"broken.{ending}"), plain)


def test_a_broken_tag_is_told(tmp_path, caplog):
    Image.fromarray(made.gradient(64, 80)).save(tmp_path / "broken.webp", exif=b"nonsense")
    media.read_picture(tmp_path / "broken.webp")
    assert "broken.webp: its EXIF data is broken" in caplog.text


def test_a_webp_chunk_that_ends_too_late(tmp_path):
    image = Image.fromarray(made.gradient(64, 80))
    image.save(tmp_path / "a.webp", lossless=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
    data = (tmp_path / "a.webp").read_bytes()
    place = data.index(b"EXIF")
    (tmp_path / "b.webp").write_bytes(data[: place + 4] + b"\xff\xff\0\0" + data[place + 8 :])
    np.testing.assert_array_equal(media.read_picture(tmp_path / "b.webp"), np.asarray(image))


def test_a_large_picture_is_read_without_alarm(tmp_path, recwarn, monkeypatch):
    Image.fromarray(made.gradient(100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    assert media.read_picture(tmp_path / "large.png").size == (100, 100)
    assert not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(Mistake, match="far more pixels"):
        media.read_picture(tmp_path / "large.png")


@pytest.mark.parametrize("read", [media.read_picture, media.read_sound, media.probe])
def test_what_is_no_file_is_said(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "is a pipe or a device"),
        (Path("/dev/null"), "is a pipe or a device"),
        (Path("https://example.org/a.png"), "is an address"),
    ):
        with pytest.raises(Mistake, match=words):
            read(path)


def test_names_with_colons_are_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made.save_wav(Path("10:15.wav"), made.voice(0.1, 16000), 16000)
    assert len(media.read_sound(Path("10:15.wav"))) == 1600
    Image.fromarray(made.gradient(64, 64)).save("a:b.png", "PNG")
    assert media.read_picture(Path("a:b.png")).size == (64, 64)
