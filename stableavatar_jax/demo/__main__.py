"""Write the demo's picture and recording: `python -m stableavatar_jax.demo FOLDER`."""

import sys
import wave
from pathlib import Path

from stableavatar_jax.demo.character import draw_character, speak
from stableavatar_jax.media import SAMPLE_RATE


def main(folder: Path) -> None:
    """`character.png` and `vowels.wav`, five seconds, 16-bit mono."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_character().save(folder / "character.png")
    with wave.open(str(folder / "vowels.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((speak(5.0) * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs"))
