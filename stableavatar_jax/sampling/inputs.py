"""What a video is made from, as options. Read without JAX."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stableavatar_jax.errors import Mistake

# Wan2.1 was trained to steer away from faults named in Chinese; this is a list of our own in the same spirit.
NEGATIVE_PROMPT = (
    "颜色过于鲜艳，曝光过度，画面静止不动，细节模糊不清，带有字幕，画风像油画或静态图片，整体发灰，质量极差，"
    "压缩失真，残缺不全，多余的手指，手部畸形，面部畸形，五官扭曲，肢体变形，手指粘连，杂乱的背景，人群，倒着走"
)

SHORTEST = 0.1
"""Seconds. Less than this of a recording is taken for a slip of the pen: it is two or three frames."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the video is made from."""

    image: Path | None = None
    """Picture of the person, cartoon or animal (required); any format Pillow reads."""
    audio: Path | None = None
    """Recording to speak or sing (required); any sound or video file. The video is as long as the recording. `-` reads
    live sound from standard input: signed 16-bit little-endian mono samples at 16 kHz, until it ends."""
    audio_track: int | None = None
    """Number of the sound track that is used, from 1, where the file has several; its default track otherwise."""
    start: float = 0.0
    """Seconds of the recording that are passed over: it is used from there on."""
    duration: float | None = None
    """Seconds of the recording that are used, or what it has of them; all of it otherwise."""
    prompt: str = "A person talks to the camera."
    """What happens in the video."""
    negative_prompt: str = NEGATIVE_PROMPT
    """What should not be seen; only `cfg` guidance uses it."""
    seed: int = 0
    """Seed of the noise. The same seed gives the same video, also where the recording goes on longer."""
    conditions: Path | None = None
    """File that --save-conditions wrote: no encoder is loaded, --image and --prompt are not needed."""
    decode_only: Path | None = None
    """File that --latents kept: only the VAE decoder runs, --image and --prompt are not needed."""

    def __post_init__(self):
        check_option("seed", self.seed, 0 <= self.seed < 2**32, "0 to 4294967295")
        check_option("audio_track", self.audio_track, self.audio_track is None or self.audio_track >= 1, "1 or more")
        check_option("start", self.start, 0 <= self.start < math.inf, "0 or more seconds")
        finite = self.duration is None or SHORTEST <= self.duration < math.inf
        check_option("duration", self.duration, finite, f"at least {SHORTEST} seconds")


def check_option(name: str, value: Any, good: bool, needed: str) -> None:
    """Raise Mistake for a value that an option does not take."""
    if not good:
        raise Mistake(f"{name} is {value}, {needed} is needed")
