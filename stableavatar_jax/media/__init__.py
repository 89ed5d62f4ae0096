"""Pictures, sounds and videos, in and out of files."""

from stableavatar_jax.media.excerpt import Excerpt
from stableavatar_jax.media.pictures import (
    Fit,
    as_picture,
    cover_box,
    enlarge,
    fit_picture,
    read_picture,
    resized,
    write_picture,
)
from stableavatar_jax.media.pixels import HALF, as_bytes, centred, cielab, postprocess
from stableavatar_jax.media.recordings import LiveSound, Recording, Samples, SoundFile
from stableavatar_jax.media.segments import Segments
from stableavatar_jax.media.sound import Sound, normalise, open_sound, read_sound, window_sound
from stableavatar_jax.media.video import VideoInfo, frame_times, probe, read_video
from stableavatar_jax.media.writer import VideoWriter

__all__ = [
    "HALF",
    "Excerpt",
    "Fit",
    "LiveSound",
    "Recording",
    "Samples",
    "Segments",
    "Sound",
    "SoundFile",
    "VideoInfo",
    "VideoWriter",
    "as_bytes",
    "as_picture",
    "centred",
    "cielab",
    "cover_box",
    "enlarge",
    "fit_picture",
    "frame_times",
    "normalise",
    "open_sound",
    "postprocess",
    "probe",
    "read_picture",
    "read_sound",
    "read_video",
    "resized",
    "window_sound",
    "write_picture",
]
