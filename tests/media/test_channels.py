"""Sounds of many channels, and files that were joined: all of it is read, or none."""

import struct

import av
import numpy as np
import pytest

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.media.tags import without_inner_tags
from tests.media import made

RATE = SAMPLE_RATE


def many(path, channels, masked, samples=4000):
    """A WAV whose channel c holds the value c everywhere, with or without a channel mask."""
    levels = np.tile(np.arange(channels, dtype="<i2"), (samples, 1)).tobytes()
    tag, width = (0xFFFE if masked else 1), 2 * channels
    head = struct.pack("<HHIIHH", tag, channels, RATE, RATE * width, width, 16)
    if masked:
        head += struct.pack("<HHI", 22, 16, (1 << min(channels, 18)) - 1) + bytes.fromhex("01" + "00" * 5 + "1000")
        head += bytes.fromhex("800000aa00389b71")
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(levels)) + levels
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("channels", [3, 6, 7, 8, 9, 10, 12, 16, 24, 32, 64])
def test_any_number_of_channels_is_mixed(tmp_path, channels, masked):
    samples = media.read_sound(many(tmp_path / "many.wav", channels, masked))
    np.testing.assert_array_equal(samples, np.full(4000, (channels - 1) / 2 / 32768, np.float32))


def test_more_channels_are_refused(tmp_path):
    with pytest.raises(Mistake, match="65 channels, at most 64"):
        media.read_sound(many(tmp_path / "many.wav", 65, False))


@pytest.mark.parametrize(("codec", "ending"), [("aac", "m4a"), ("flac", "flac"), ("libopus", "mka")])
def test_planes_of_eight_channels(tmp_path, codec, ending):
    sound = np.repeat(made.voice(0.5, 48000), 8, 0)
    made.coded(tmp_path / f"8.{ending}", codec, sound, 48000, layout="7.1")
    assert made.best_lag(media.read_sound(tmp_path / f"8.{ending}", 48000), sound[0], 2000)[1] > 0.9


@pytest.mark.parametrize(
    ("ending", "codec"),
    [("wav", "pcm_s16le"), ("m4a", "aac"), ("aiff", "pcm_s16be"), ("caf", "pcm_s16le"), ("w64", "pcm_s16le")],
)
def test_joined_files_whose_format_hides_the_second_are_refused(tmp_path, ending, codec):
    one = made.coded(tmp_path / f"1.{ending}", codec, made.voice(0.5, RATE))
    media.read_sound(tmp_path / f"1.{ending}")
    (tmp_path / f"2.{ending}").write_bytes(one + one)
    with pytest.raises(Mistake, match=f"several files joined into one.*byte {len(one)}"):
        media.read_sound(tmp_path / f"2.{ending}")


@pytest.mark.parametrize(("ending", "codec"), [("flac", "flac"), ("ogg", "libopus"), ("aac", "aac"), ("mka", "aac")])
def test_joined_files_are_read_whole(tmp_path, ending, codec):
    rate = 48000 if codec == "libopus" else RATE
    one, two = (made.coded(tmp_path / f"{i}.{ending}", codec, made.voice(0.5, rate), rate) for i in (1, 0))
    (tmp_path / f"2.{ending}").write_bytes(one + two)
    length = len(media.read_sound(tmp_path / f"1.{ending}"))
    assert len(media.read_sound(tmp_path / f"2.{ending}")) == pytest.approx(2 * length, abs=0.1 * RATE)


def id3(content: bytes) -> bytes:
    size = bytes(len(content) >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + content


def ape(flags=0xA0000000) -> bytes:
    item = struct.pack("<II", 5, 0) + b"Title\0hello"
    block = lambda flags: b"APETAGEX" + struct.pack("<IIII8x", 2000, len(item) + 32, 1, flags)  # noqa: E731
    return block(flags) + item + block(0x80000000)


PICTURE = np.random.default_rng(0).integers(0, 256, 20000, np.uint8).tobytes()
FRAMES = (b"\xff\xfb\x90\x64" + PICTURE[:413]) * 5
TAGS = {
    "nothing": b"",
    "ID3v1": b"TAG" + b"title".ljust(125, b"\0"),
    "ID3v2": id3(b"TIT2" + bytes(300)),
    "a cover": id3(b"APIC" + PICTURE),
    "a cover like frames": id3(b"APIC" + FRAMES),
    "padding": id3(bytes(50)) + bytes(500),
    "APE": ape(),
    "Lyrics3": b"LYRICSBEGIN" + b"la la" + b"000005LYRICS200",
}
TAGS["all"] = TAGS["APE"] + TAGS["Lyrics3"] + TAGS["ID3v1"] + TAGS["ID3v2"]


@pytest.fixture(scope="module")
def mp3(tmp_path_factory):
    return made.coded(tmp_path_factory.mktemp("mp3") / "1.mp3", "libmp3lame", made.voice(0.5, RATE))


@pytest.mark.parametrize("between", TAGS)
def test_tags_between_joined_mp3s_are_no_sound(tmp_path, mp3, between):
    (tmp_path / "1.mp3").write_bytes(mp3)
    once = media.read_sound(tmp_path / "1.mp3")
    (tmp_path / "2.mp3").write_bytes(mp3 + TAGS[between] + mp3)
    both = media.read_sound(tmp_path / "2.mp3")
    assert len(both) == pytest.approx(2 * len(once), abs=0.12 * RATE)
    assert np.corrcoef(both[: len(once) - 2000], once[:-2000])[0, 1] > 0.999
    assert made.best_lag(both[len(once) :], once, 1999)[1] > 0.99


def test_damage_in_an_mp3_is_still_seen(tmp_path, mp3):
    half = len(mp3) // 2
    (tmp_path / "hurt.mp3").write_bytes(mp3[:half] + bytes(600) + mp3[half + 600 :])
    with pytest.raises(Mistake, match="damaged"):
        media.read_sound(tmp_path / "hurt.mp3")


def test_sound_that_looks_like_a_tag_is_kept():
    for looks in (b"TAG", b"ID3\x03\0\0\0\0\0\5", b"APETAGEX", b"LYRICSBEGIN"):
        content = b"\xff\xfb" + PICTURE[:1000] + looks + PICTURE[1000:2000]
        assert without_inner_tags(content) == content


def test_joined_mono_and_stereo_is_refused(tmp_path, mp3):
    stereo = made.coded(tmp_path / "s.mp3", "libmp3lame", made.voice(0.5, RATE, 2), layout="stereo")
    (tmp_path / "2.mp3").write_bytes(mp3 + stereo)
    with pytest.raises(Mistake, match="changes rate or channels midway"):
        media.read_sound(tmp_path / "2.mp3")


def test_an_ogg_that_repeats_itself_is_refused(tmp_path):
    """FFmpeg passes over a second stream of the same number."""
    one = made.coded(tmp_path / "1.ogg", "libopus", made.voice(0.5, 48000), 48000)
    (tmp_path / "2.ogg").write_bytes(one + one)
    with pytest.raises(Mistake, match="several files joined"):
        media.read_sound(tmp_path / "2.ogg")


def test_another_codec_midway_is_refused(tmp_path):
    one = made.coded(tmp_path / "1.ts", "aac", made.voice(0.5, RATE))
    two = made.coded(tmp_path / "2.ts", "mp2", made.voice(0.5, 48000), 48000)
    (tmp_path / "3.ts").write_bytes(one + two)
    with pytest.raises(Mistake, match="damaged 0.5"):
        media.read_sound(tmp_path / "3.ts")


def test_notices(tmp_path, caplog):
    voice = made.voice(0.5, RATE)
    made.save_wav(tmp_path / "both.wav", np.concatenate([voice, voice]), RATE)
    made.save_wav(tmp_path / "left.wav", np.concatenate([voice, 0 * voice]), RATE)
    made.save_wav(tmp_path / "silent.wav", np.concatenate([0 * voice, 0 * voice]), RATE)
    for name in ("both", "left", "silent"):
        media.read_sound(tmp_path / f"{name}.wav")
    assert not caplog.records
    made.save_wav(tmp_path / "against.wav", np.concatenate([voice, -0.95 * voice]), RATE)
    assert len(media.read_sound(tmp_path / "against.wav")) == 8000
    assert "against.wav: its channels cancel out" in caplog.text
    with av.open(tmp_path / "two.mka", "w") as file:
        tracks = [file.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(2)]
        for track in tracks:
            frame = av.AudioFrame.from_ndarray(np.round(voice * 32767).astype("<i2"), format="s16", layout="mono")
            frame.sample_rate = RATE
            file.mux([*track.encode(frame), *track.encode(None)])
    media.read_sound(tmp_path / "two.mka")
    assert "two.mka: it has 2 sound tracks, number 1 is used" in caplog.text
