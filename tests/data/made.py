"""Small clips made for tests: a moving square with a tone, masks that lie on it."""

import wave
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from stableavatar_jax import media

FPS = 25


def frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A bright square that wanders over a gradient."""
    pixels = np.empty((count, height, width, 3), np.uint8)
    pixels[:] = np.linspace(20, 90, width, dtype=np.uint8)[None, None, :, None]
    for i in range(count):
        pixels[i, 16:32, 20 + i % 16 : 36 + i % 16] = (200, 120, 60)
    return pixels


def mask(number: int, height: int = 48, width: int = 64, part: str = "face_masks") -> bytes:
    """White on the square, or on its lower half for the lips."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[16 if part == "face_masks" else 24 : 32, 20 + number % 16 : 36 + number % 16] = 255
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def sound(path: Path, seconds: float, rate: int = 16000) -> None:
    """A tone, as mono WAV."""
    samples = 0.3 * np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 220 / rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def video(path: Path, count: int = 20, seconds: float | None = None, height: int = 48, width: int = 64) -> Path:
    """An MP4 with sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wav = path.with_suffix(".tone.wav")
    sound(wav, count / FPS if seconds is None else seconds, 32000)
    with media.VideoWriter(path, fps=FPS, height=height, width=width, sound=wav) as file:
        file.write(frames(count, height, width))
    wav.unlink()
    return path


def video_clip(path: Path, count: int = 20, **options) -> Path:
    """An MP4 with masks beside it, as `prepare` leaves it."""
    video(path, count, **options)
    size = {name: options[name] for name in ("height", "width") if name in options}
    with zipfile.ZipFile(path.with_suffix(".masks.zip"), "w") as file:
        for i in range(count):
            for part in ("face_masks", "lip_masks"):
                file.writestr(f"{part}/frame_{i}.png", mask(i, part=part, **size))
    return path


def folder_clip(folder: Path, count: int = 12, name: str = "frame_{}.png", seconds: float | None = None) -> Path:
    """A clip as the release lays it out, without sub_clip.mp4."""
    for part in ("images", "face_masks", "lip_masks"):
        (folder / part).mkdir(parents=True)
    for i, pixels in enumerate(frames(count)):
        Image.fromarray(pixels).save(folder / "images" / name.format(i))
        for part in ("face_masks", "lip_masks"):
            (folder / part / name.format(i)).write_bytes(mask(i, part=part))
    sound(folder / "audio.wav", count / FPS if seconds is None else seconds)
    return folder
