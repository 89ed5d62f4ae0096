"""Pictures, sounds and videos, in and out of files."""

from stableavatar_jax.media.pictures import Fit, cover_box, enlarge, fit_picture, read_picture, write_picture
from stableavatar_jax.media.sound import Sound, frames_of, normalise, open_sound, read_sound, window_sound
from stableavatar_jax.media.video import VideoInfo, probe, read_video
from stableavatar_jax.media.writer import VideoWriter, postprocess

__all__ = [
    "Fit",
    "Sound",
    "VideoInfo",
    "VideoWriter",
    "cover_box",
    "enlarge",
    "fit_picture",
    "frames_of",
    "normalise",
    "open_sound",
    "postprocess",
    "probe",
    "read_picture",
    "read_sound",
    "read_video",
    "window_sound",
    "write_picture",
]
