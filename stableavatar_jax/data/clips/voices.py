"""The sound of a clip: its own, or the voice alone."""

import wave
from pathlib import Path

import numpy as np

from stableavatar_jax import media
from stableavatar_jax.data.clips.config import PrepareConfig
from stableavatar_jax.errors import Mistake


def voice_of(config: PrepareConfig, name: str) -> Path | None:
    """The separated voice of a clip, where there is one."""
    path = config.vocals / Path(name).with_suffix(".wav") if config.vocals else None
    return path if path and path.exists() else None


def write_sound(source: Path, target: Path) -> int:
    """The sound of a file as mono 16-bit WAV at its own rate, which is returned."""
    with media.open_sound(source) as sound, wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        for block in sound.blocks:
            file.writeframes(np.rint(block.mean(0).clip(-1, 1) * 32767).astype("<i2").tobytes())
        if not file.tell():
            raise Mistake(f"{source}: the sound track is empty; record or export it again", "no sound")
        return sound.rate
