"""The world as a data set: clips with pictures, masks, sound and the truth about them."""

import io
import json
import multiprocessing
import wave
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
from PIL import Image

from stableavatar_jax.data.clips.clip import Clip
from stableavatar_jax.data.clips.dataset import write_clips
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.world.character import draw_character
from stableavatar_jax.world.config import FPS, SEEDS, TEST_CHARACTERS, BuildWorldConfig
from stableavatar_jax.world.draw import Pose, masks, render
from stableavatar_jax.world.motion import draw_poses, speech_energy
from stableavatar_jax.world.mouth import from_phonemes
from stableavatar_jax.world.recording import Recording, draw_recording

AHEAD = 128
"""Clips that may be drawn and not yet written; more would fill the memory where writing is slow."""
REST = tuple(field.name for field in fields(Pose) if field.name not in ("opening", "width"))
"""What `labels` calls poses: a list of these for every frame."""


def build_world(config: BuildWorldConfig) -> int:
    """Write the data set; returns the number of clips. Raises Mistake where it cannot be written."""
    jobs = [(config, number, take) for number in range(config.characters) for take in range(config.clips)]

    def clips() -> Iterator[Clip]:
        with multiprocessing.get_context("spawn").Pool(config.workers) as pool:
            for first in range(0, len(jobs), AHEAD):
                yield from pool.imap(_make, jobs[first : first + AHEAD], chunksize=2)

    return write_clips(config.output, clips, total=len(jobs))


def make_clip(config: BuildWorldConfig, number: int, take: int = 0) -> Clip:
    """The clip of a character; it follows from the configuration's seed and split and these numbers alone."""
    character = draw_character(TEST_CHARACTERS * (config.split == "test") + SEEDS * config.seed + number)
    recording, rng = _recording(config, number, take)
    mouth = from_phonemes(recording.phonemes, config.frames, FPS)
    energy = speech_energy(recording.samples, SAMPLE_RATE, config.frames, FPS)
    poses = draw_poses(mouth, energy, rng, FPS, config.still)
    faces, lips = zip(*(masks(character, pose, config.size) for pose in poses), strict=True)
    labels = {
        "character": character.seed,
        "voice": recording.voice,
        "opening": [pose.opening for pose in poses],
        "width": [pose.width for pose in poses],
        "phonemes": [[p.symbol, round(p.start, 4), round(p.end, 4)] for p in recording.phonemes],
        "poses": [[getattr(pose, name) for name in REST] for pose in poses],
    }
    return Clip(
        id=f"{config.split}/{config.seed}/{number:04d}-{take}", kind="talking", fps=float(FPS), frames=config.frames,
        height=config.size, width=config.size, sound_rate=SAMPLE_RATE,
        images=tuple(png(render(character, pose, config.size)) for pose in poses),
        face_masks=tuple(map(png, faces)), lip_masks=tuple(map(png, lips)),
        sound=wav(recording.samples), prompt=character.caption, labels=json.dumps(labels, ensure_ascii=False),
    )  # fmt: skip


def speaks(config: BuildWorldConfig, number: int, take: int = 0) -> bool:
    """Whether the character says anything in its clip; a few are mute."""
    return bool(_recording(config, number, take)[0].phonemes)


def _recording(config: BuildWorldConfig, number: int, take: int) -> tuple[Recording, np.random.Generator]:
    """What is heard in a clip, and what draws all else of it."""
    rng = np.random.default_rng((0x3011D, config.split == "test", config.seed, number, take))
    return draw_recording(rng, config.split, config.frames / FPS), rng


def png(pixels: np.ndarray) -> bytes:
    """A picture as PNG, compressed little and quickly."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def wav(samples: np.ndarray) -> bytes:
    """A sound in -1..1 at 16 kHz as 16-bit WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def _make(job: tuple[BuildWorldConfig, int, int]) -> Clip:
    return make_clip(*job)
