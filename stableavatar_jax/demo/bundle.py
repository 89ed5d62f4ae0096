"""The picture and the recording of `make demo`: a character and a voice that training never used."""

from pathlib import Path

import av
import numpy as np

from stableavatar_jax import media
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.shapes import Float
from stableavatar_jax.whole import whole
from stableavatar_jax.world.character import draw_character
from stableavatar_jax.world.config import TEST_CHARACTERS
from stableavatar_jax.world.draw import Pose, render
from stableavatar_jax.world.recording import to_rate
from stableavatar_jax.world.voices import Voice, sentences

CHARACTER = TEST_CHARACTERS + 13
"""An orange fox in a pink shirt with a tie."""
SIZE = 384
"""Pixels of the picture: four times what the model sees, to look good."""
VOICE = Voice(language="en", name="en-gb-x-rp+f5", speed=165, pitch=55, pitch_range=70)
BEFORE, PAUSE = 0.3, 0.45
"""Seconds of silence before the first sentence, and between sentences."""
SECONDS = 10.0
PEAK = 0.7


def bundle(output: Path) -> None:
    """Write character.png and speech.flac into a folder, and print their names."""
    picture, sound = output / "character.png", output / "speech.flac"
    media.write_picture(picture, render(draw_character(CHARACTER), Pose(), SIZE))
    write_flac(sound, speak())
    print(picture, sound, sep="\n")


def speak() -> Float[np.ndarray, "S"]:
    """Held-out English sentences with pauses, 16 kHz; what does not fit whole is left out."""
    samples = np.zeros(round(SECONDS * SAMPLE_RATE), np.float32)
    first = round(BEFORE * SAMPLE_RATE)
    for text in sentences(VOICE.language, "test"):
        speech = VOICE.say(text)
        spoken = to_rate(speech.samples, speech.rate)
        if first + len(spoken) <= len(samples):
            samples[first : first + len(spoken)] = spoken
            first += len(spoken) + round(PAUSE * SAMPLE_RATE)
    return samples * (PEAK / np.abs(samples).max())


def write_flac(path: Path, samples: Float[np.ndarray, "S"]) -> None:
    """16 bits, mono, 16 kHz."""
    rounded = np.rint(samples * 32767).astype(np.int16)
    with whole(path) as partial, av.open(partial, "w", format="flac") as file:
        stream = file.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(rounded[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
