"""The sound of each window, from left to right, as soon as its samples are there."""

from collections.abc import Iterator

import numpy as np

from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.frames import FRAMES_PER_LATENT, SAMPLE_RATE, frames_of, latent_frames, video_frames
from stableavatar_jax.media import Recording, window_sound
from stableavatar_jax.shapes import Float


def window_sounds(
    recording: Recording, windows: WindowConfig, fps: int | float
) -> Iterator[Float[np.ndarray, "S_window"]]:
    """The audio encoder's input for every window of a recording's video: normalised, and padded with silence.

    There are as many as `windows.plan` has for the latent frames of the whole recording, also of one whose end is not
    known yet. In memory are the samples of one window and of one block. `fps` is the video's frames a second.
    """
    frames = video_frames(windows.window)
    stride = FRAMES_PER_LATENT * windows.plan(1).stride

    def first(window: int) -> int:
        return round(window * stride * SAMPLE_RATE / fps)

    length = round(frames * SAMPLE_RATE / fps)
    window, begin, read = 0, 0, 0  # the next window, the sample that is held first, and how many were read
    held: list[np.ndarray] = []
    for block in recording.blocks():
        held.append(block)
        read += len(block)
        while read >= first(window) + length:  # it is a window of the plan: its last frames are in no other
            samples = np.concatenate(held)
            yield window_sound(samples[first(window) - begin :], 0, frames, fps)
            window += 1
            keep = min(first(window), read)
            held, begin = [samples[keep - begin :].copy()], keep
    rest = np.concatenate([np.zeros(0, np.float32), *held])
    for last in range(window, windows.plan(latent_frames(frames_of(read, SAMPLE_RATE, fps))).count):
        yield window_sound(rest[first(last) - begin :], 0, frames, fps)
