"""Pictures, sounds and videos made here, written and read back."""

import resource
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from stableavatar_jax import media

RATE = media.SAMPLE_RATE


def voice(seconds, rate, channels=1, seed=0):
    """Noise with the falling spectrum and the pauses of speech, float32 [channels, samples]."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.normal(size=(channels, round(seconds * rate))))
    hertz = np.arange(spectrum.shape[1]) / seconds
    sound = np.fft.irfft(spectrum * (hertz > 80) / (1 + (hertz / 500) ** 2), round(seconds * rate))
    sound *= 1 + np.sin(np.arange(sound.shape[1]) * 2 * np.pi * 3 / rate)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def save_wav(path, sound, rate):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(sound))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(sound.T * 32767).astype("<i2").tobytes())
    return path


def gradient(height, width):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 / height, columns * 255 / width, 0 * rows + 90], -1).astype(np.uint8)


def moving(frames, height=32, width=48):
    """Frames that each have their own brightness."""
    return np.stack([np.full((height, width, 3), 40 + 5 * (i % 40), np.uint8) for i in range(frames)])


def best_lag(heard, original, most=200):
    """The shift, in samples, at which two sounds agree best, and their correlation there."""
    n = min(len(heard), len(original)) - most
    middle = original[most:n]
    agree = {lag: np.corrcoef(heard[most + lag : n + lag], middle)[0, 1] for lag in range(-most, most + 1)}
    lag = max(agree, key=agree.get)
    return lag, agree[lag]


# Pictures


def test_a_picture_of_the_frames_size_is_itself():
    picture = gradient(64, 96)
    for fit in ("cover", "stretch"):
        fitted = media.fit_picture(Image.fromarray(picture), 64, 96, fit)
        assert fitted.dtype == np.float32
        np.testing.assert_allclose(fitted, picture / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(("size", "kept"), [((100, 300), np.s_[100:200, :]), ((300, 100), np.s_[:, 100:200])])
def test_cover_keeps_the_middle(size, kept):
    picture = gradient(size[1], size[0])
    fitted = media.fit_picture(Image.fromarray(picture), 100, 100)
    np.testing.assert_allclose(fitted, picture[kept] / 127.5 - 1, atol=1e-6)


def test_crop_says_what_is_kept():
    picture = gradient(300, 100)
    top = media.fit_picture(Image.fromarray(picture), 100, 100, crop=0.0)
    bottom = media.fit_picture(Image.fromarray(picture), 100, 100, crop=1.0)
    np.testing.assert_allclose(top, picture[:100] / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(bottom, picture[200:] / 127.5 - 1, atol=1e-6)


def test_stretch_shows_the_whole_picture():
    fitted = media.fit_picture(Image.fromarray(gradient(200, 100)), 64, 64, "stretch")
    np.testing.assert_allclose(fitted, gradient(64, 64) / 127.5 - 1, atol=4 / 127.5)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    levels = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    picture = np.asarray(media.read_picture(tmp_path / "grey.png"))
    np.testing.assert_array_equal(picture, np.rint(levels / 257)[..., None].repeat(3, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path, orientation):
    upright = gradient(64, 80)
    turned = {2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]}.get(orientation, upright)
    if orientation > 4:  # stored on its side
        turned = {5: upright, 6: upright[:, ::-1], 7: upright[::-1, ::-1], 8: upright[::-1]}[orientation]
        turned = turned.transpose(1, 0, 2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(turned).save(tmp_path / "phone.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(media.read_picture(tmp_path / "phone.png")), upright)


def test_transparent_palette_is_on_white(tmp_path):
    image = Image.fromarray(gradient(64, 64)).quantize(16)
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
        with pytest.raises(media.MediaError, match=words) as refusal:
            media.read_picture(path)
        assert str(path) in str(refusal.value)


# Sounds


@pytest.mark.parametrize("seconds", [0.1, 1.0])
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (44100, 2), (48000, 1)])
def test_a_sound_is_the_mean_of_its_channels_at_16_khz(tmp_path, seconds, rate, channels):
    hertz = np.array([[300.0], [500.0]])[:channels]
    sound = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    samples = media.read_sound(save_wav(tmp_path / "tone.wav", sound, rate))
    expected = (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).mean(0)
    assert samples.dtype == np.float32
    assert len(samples) == len(expected)
    inside = slice(200, -200)  # the resampler's filter reaches past the ends
    np.testing.assert_allclose(samples[inside], expected[inside], atol=1e-3)


def test_sound_of_a_video_begins_with_its_pictures(tmp_path):
    """A sound track that starts 0.5 s after the first picture is heard 0.5 s late, one that starts before is cut."""
    sound = voice(2, RATE)
    for name, delay in (("late", 0.5), ("early", -0.5)):
        with av.open(tmp_path / f"{name}.mkv", "w") as file:
            pictures, track = file.add_stream("mpeg4", rate=25), file.add_stream("pcm_s16le", rate=RATE, layout="mono")
            pictures.height, pictures.width, pictures.pix_fmt = 32, 48, "yuv420p"
            for i, pixels in enumerate(moving(25)):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = i + 25, Fraction(1, 25)
                file.mux(pictures.encode(frame))
            heard = av.AudioFrame.from_ndarray(np.round(sound * 32767).astype("<i2"), format="s16", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = RATE, round((1 + delay) * RATE), Fraction(1, RATE)
            file.mux([*track.encode(heard), *track.encode(None), *pictures.encode(None)])
        samples = media.read_sound(tmp_path / f"{name}.mkv")
        shift = round(delay * RATE)
        assert len(samples) == len(sound[0]) + shift
        np.testing.assert_allclose(samples[max(shift, 0) :], sound[0, max(-shift, 0) :], atol=1e-3)
        assert not samples[: max(shift, 0)].any()


def coded(path, codec, sound):
    """The bytes of a sound file of one channel, through an encoder."""
    frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
    frame.sample_rate = RATE
    with av.open(path, "w") as file:
        track = file.add_stream(codec, rate=RATE, layout="mono")
        file.mux([*track.encode(frame), *track.encode(None)])
    return path.read_bytes()


def test_a_sound_cut_short_is_taken_as_far_as_it_goes(tmp_path):
    sound = voice(3, RATE)
    data = coded(tmp_path / "sound.flac", "flac", sound)
    (tmp_path / "sound.flac").write_bytes(data[: len(data) // 2])
    samples = media.read_sound(tmp_path / "sound.flac")
    assert RATE < len(samples) < 2 * RATE
    np.testing.assert_allclose(samples, sound[0, : len(samples)], atol=1e-3)


def test_a_missing_piece_of_sound_is_silent_and_what_follows_in_time(tmp_path):
    sound = voice(3, RATE)
    data = coded(tmp_path / "sound.flac", "flac", sound)
    third = len(data) // 3
    (tmp_path / "sound.flac").write_bytes(data[:third] + bytes(third) + data[2 * third :])
    samples = media.read_sound(tmp_path / "sound.flac")
    assert len(samples) == len(sound[0])
    for kept in (slice(0, RATE // 2), slice(-RATE // 2, None)):
        np.testing.assert_allclose(samples[kept], sound[0, kept], atol=1e-3)
    assert not samples[int(1.4 * RATE) : int(1.6 * RATE)].any()


def test_a_damaged_sound_is_refused(tmp_path):
    data = coded(tmp_path / "sound.mp3", "libmp3lame", voice(3, RATE))
    third = len(data) // 3
    (tmp_path / "sound.mp3").write_bytes(data[:third] + bytes(600) + data[third + 600 :])
    with pytest.raises(media.MediaError, match="damaged .* s from its start"):
        media.read_sound(tmp_path / "sound.mp3")


def test_sounds_refused(tmp_path):
    save_wav(tmp_path / "empty.wav", np.zeros((1, 0)), RATE)
    with media.VideoWriter(tmp_path / "mute.mp4", fps=25, height=32, width=48) as video:
        video.write(moving(3))
    for path, words in (
        (tmp_path / "none.wav", "no such file"),
        (tmp_path / "empty.wav", "no samples"),
        (tmp_path / "mute.mp4", "has no sound"),
    ):
        with pytest.raises(media.MediaError, match=words) as refusal:
            media.read_sound(path)
        assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("seconds", "frames"), [(0.01, 1), (0.1, 3), (0.2, 5), (3.2, 80), (3.24, 81), (3.25, 82), (3.28, 82), (61, 1525)]
)
def test_frames_cover_the_sound(seconds, frames):
    assert media.frames_of(round(seconds * RATE), RATE, 25) == frames
    assert media.frames_of(round(seconds * RATE), RATE, 25.0) == frames


@pytest.mark.parametrize(("fps", "length"), [(24, 54000), (25, 51840), (30, 43200), (29.97, 43243)])
def test_a_window_hears_its_frames(fps, length):
    sound = voice(9, RATE)[0] + 0.3
    for start in (0, 44, 176):
        heard = media.window_sound(sound, start, 81, fps)
        first = round(start * RATE / fps)
        real = sound[first : first + length]
        assert heard.shape == (length,)
        np.testing.assert_array_equal(heard[: len(real)], media.normalise(real))
        np.testing.assert_array_equal(heard[len(real) :], 0)
        assert heard[: len(real)].mean() == pytest.approx(0, abs=1e-4)
        assert heard[: len(real)].std() == pytest.approx(1, abs=1e-3)
    assert not media.window_sound(sound, 1000, 81, fps).any()


def test_silence_stays_silence():
    assert not media.window_sound(np.zeros(1600, np.float32), 0, 81, 25).any()


# Videos


@pytest.mark.parametrize(
    ("seconds", "rate", "channels", "fps"),
    [(0.1, 16000, 1, 25), (0.2, 8000, 1, 24), (3.24, 44100, 2, 25), (2.0, 22050, 1, 30), (1.5, 48000, 2, 29.97)],
)
def test_video_and_sound_come_back(tmp_path, seconds, rate, channels, fps):
    original = voice(seconds, rate, channels)
    recording = save_wav(tmp_path / "recording.wav", original, rate)
    frames = media.frames_of(original.shape[1], rate, fps)
    pictures = moving(frames)
    with media.VideoWriter(tmp_path / "out.mp4", fps=fps, height=32, width=48, sound=recording) as video:
        for start in range(0, frames, 4):
            video.write(pictures[start : start + 4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "recording.wav"]

    info = media.probe(tmp_path / "out.mp4")
    assert (info.frames, info.height, info.width, info.sound) == (frames, 32, 48, True)
    assert info.fps == pytest.approx(fps)
    assert abs(info.seconds - seconds) <= 1 / fps
    seen = np.stack(list(media.read_video(tmp_path / "out.mp4")))
    np.testing.assert_allclose(seen.astype(int), pictures, atol=4)

    heard = media.read_sound(tmp_path / "out.mp4")
    assert len(heard) == pytest.approx(info.seconds * RATE, abs=0.001 * RATE)  # MP4 states lengths in milliseconds
    lag, agreement = best_lag(heard, media.read_sound(recording), most=min(200, len(heard) // 8))
    assert lag == 0
    assert agreement > 0.99

    with av.open(tmp_path / "out.mp4") as file:  # also to a reader that does not cut the last AAC frame
        track = file.streams.audio[0]
        assert track.channels == channels
        assert sum(frame.samples for frame in file.decode(track)) / track.rate <= info.seconds + 1 / fps


def test_sound_is_cut_or_followed_by_silence_to_the_frames(tmp_path):
    for name, seconds in (("longer", 3.0), ("shorter", 0.5)):
        recording = save_wav(tmp_path / f"{name}.wav", voice(seconds, 48000), 48000)
        with media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48, sound=recording) as video:
            video.write(moving(30))
        heard = media.read_sound(tmp_path / "out.mp4")
        assert len(heard) == pytest.approx(1.2 * RATE, abs=1)
        assert (np.abs(heard[int(0.6 * RATE) :]).max() < 1e-3) == (name == "shorter")


def test_sound_is_read_as_the_frames_come(tmp_path):
    """A recording of an hour is not in memory, nor is any of it read far ahead of the pictures."""
    read = 0

    def blocks():
        nonlocal read
        for _ in range(36000):
            read += 1
            yield np.zeros((1, 4800), np.float32)  # 0.1 s

    sound = media.Sound(rate=48000, channels=1, blocks=blocks())
    with media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48, sound=sound) as video:
        for second in range(1, 4):
            video.write(moving(25))
            assert 10 * second - 1 <= read <= 10 * second + 1


def test_colours_are_bt709(tmp_path):
    """As players read an H.264 of this size only when told to: tagged, and encoded as tagged (red's luma is 63)."""
    red = np.broadcast_to(np.array([255, 0, 0], np.uint8), (2, 32, 48, 3))
    with media.VideoWriter(tmp_path / "red.mp4", fps=25, height=32, width=48) as video:
        video.write(red)
    with av.open(tmp_path / "red.mp4") as file:
        frame = next(file.decode(video=0))
    assert frame.format.name == "yuv420p"
    assert frame.colorspace == 1
    assert frame.to_ndarray()[:32].mean() == pytest.approx(63, abs=1)
    np.testing.assert_allclose(next(media.read_video(tmp_path / "red.mp4")).astype(int), red[0], atol=3)


def test_float_frames_are_postprocessed(tmp_path):
    frames = np.array([-2, -1, 0, 0.5, 1, 2], np.float32)
    np.testing.assert_array_equal(media.postprocess(frames), [0, 0, 127, 191, 255, 255])
    pictures = moving(3)
    with media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48) as video:
        video.write(pictures / np.float32(127.5) - 1)
    np.testing.assert_allclose(np.stack(list(media.read_video(tmp_path / "out.mp4"))).astype(int), pictures, atol=4)


@pytest.mark.parametrize("frames", [0, 1, 60])
def test_nothing_is_left_after_an_error(tmp_path, frames):
    (tmp_path / "out.mp4").write_text("an older video")
    recording = save_wav(tmp_path / "recording.wav", voice(3, RATE), RATE)

    def fail():
        with media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48, sound=recording) as video:
            video.write(moving(frames)) if frames else None
            assert any(path.name.endswith(".part") for path in tmp_path.iterdir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "recording.wav"]
    assert (tmp_path / "out.mp4").read_text() == "an older video"


def test_outputs_refused(tmp_path):
    save_wav(tmp_path / "empty.wav", np.zeros((1, 0)), RATE)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "text.wav").write_text("no sound")
    before = sorted(tmp_path.rglob("*"))
    for path, sound, words in (
        (tmp_path / "none" / "out.mp4", None, "there is no folder"),
        (tmp_path / "out.avi", None, "ends in .mp4"),
        (tmp_path / "folder.mp4", None, "is a folder"),
        (tmp_path / ("x" * 260 + ".mp4"), None, "cannot be written"),
        (tmp_path / "out.mp4", tmp_path / "text.wav", "text.wav: cannot be opened"),
        (tmp_path / "out.mp4", tmp_path / "none.wav", "none.wav: no such file"),
    ):
        with (
            pytest.raises(media.MediaError, match=words),
            media.VideoWriter(path, fps=25, height=32, width=48, sound=sound),
        ):
            pytest.fail("opened")
    with (
        pytest.raises(media.MediaError, match="no frames"),
        media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48),
    ):
        pass
    with pytest.raises(ValueError, match="even"):
        media.VideoWriter(tmp_path / "out.mp4", fps=25, height=33, width=48)
    with (
        pytest.raises(ValueError, match="frames of shape"),
        media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48) as video,
    ):
        video.write(moving(1, 48, 32))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_reported(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 128, 128, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with (
            pytest.raises(media.MediaError, match="make room"),
            media.VideoWriter(tmp_path / "out.mp4", fps=25, height=128, width=128) as video,
        ):
            for _ in range(3):
                video.write(noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_phone_video_is_upright(tmp_path):
    """The turn that a phone writes into the track header (a matrix of 16.16 numbers) instead of turning the pixels."""
    with media.VideoWriter(tmp_path / "out.mp4", fps=25, height=32, width=48, crf=1) as video:
        video.write(gradient(32, 48)[None])
    data = (tmp_path / "out.mp4").read_bytes()
    one, zero, minus = b"\0\1\0\0", b"\0\0\0\0", b"\xff\xff\0\0"
    matrix = data.index(b"tkhd") + 4 + 40
    unit = b"\x40\0\0\0"
    assert data[matrix : matrix + 36] == one + zero * 3 + one + zero * 3 + unit
    clockwise = zero + one + zero + minus + zero * 4 + unit
    (tmp_path / "phone.mp4").write_bytes(data[:matrix] + clockwise + data[matrix + 36 :])
    info = media.probe(tmp_path / "phone.mp4")
    assert (info.height, info.width) == (48, 32)
    seen = next(media.read_video(tmp_path / "phone.mp4")).astype(int)
    np.testing.assert_allclose(seen, np.rot90(gradient(32, 48), -1), atol=16)


def test_videos_refused(tmp_path):
    save_wav(tmp_path / "sound.wav", voice(0.1, RATE), RATE)
    with pytest.raises(media.MediaError, match="no video track"):
        media.probe(tmp_path / "sound.wav")
    with media.VideoWriter(tmp_path / "out.mp4", fps=25, height=64, width=64) as video:
        video.write(np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3), np.uint8))
    data = (tmp_path / "out.mp4").read_bytes()
    half = len(data) // 2
    (tmp_path / "hurt.mp4").write_bytes(data[:half] + bytes(3000) + data[half + 3000 :])
    with pytest.raises(media.MediaError, match="damaged after frame"):
        list(media.read_video(tmp_path / "hurt.mp4"))
