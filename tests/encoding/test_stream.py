"""The sound of each window, while the recording is read."""

import numpy as np
import pytest

from stableavatar_jax import media
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.encoding.stream import window_sounds
from stableavatar_jax.frames import SAMPLE_RATE, frames_of, latent_frames, video_frames
from tests.media import made

SOUND = made.voice(60, SAMPLE_RATE)[0] + np.float32(0.1)


class Blocks:
    """A recording of unknown length in blocks of one size; `read` counts the samples that were taken."""

    def __init__(self, sound, size):
        self.sound, self.size, self.read = sound, size, 0

    samples = None

    def blocks(self):
        for start in range(0, len(self.sound), self.size):
            self.read = min(start + self.size, len(self.sound))
            yield self.sound[start : start + self.size]

    def open(self):
        raise AssertionError("the sound for the video is not wanted here")


def of_the_whole(sound, windows, fps):
    """The sound of every window of the plan, cut from the whole recording."""
    plan = windows.plan(latent_frames(frames_of(len(sound), SAMPLE_RATE, fps)))
    return [media.window_sound(sound, start, video_frames(plan.window), fps) for start in plan.video_starts]


def edges(windows, fps):
    """Lengths at which a window is added, a sample fewer and more, and a few others."""
    for count in (1, 2, 3, 5):
        covered = windows.plan(1).window + (count - 1) * windows.plan(1).stride
        length = int(video_frames(covered) * SAMPLE_RATE / fps)
        yield from range(length - 2, length + 3)
    yield from (1, 799, 16000, 345_678)


@pytest.mark.parametrize("fps", [24, 25, 30, 29.97])
@pytest.mark.parametrize("overlap", [0, 2, 5, 10, 15, 20])
def test_windows_are_those_of_the_whole_recording(overlap, fps):
    windows = WindowConfig(overlap=overlap)
    for length in edges(windows, fps):
        sound = SOUND[:length]
        expected = of_the_whole(sound, windows, fps)
        for size in (997, 16_000, 400_000):
            found = list(window_sounds(Blocks(sound, size), windows, fps))
            assert len(found) == len(expected), (length, size)
            for window, (a, b) in enumerate(zip(found, expected, strict=True)):
                np.testing.assert_array_equal(a, b, err_msg=f"{length} samples, blocks of {size}, window {window}")


@pytest.mark.parametrize(("window", "overlap"), [(1, 0), (3, 2), (5, 0), (9, 4)])
def test_windows_of_other_sizes(window, overlap):
    windows = WindowConfig(window=window, overlap=overlap)
    for length in (1, 640, 641, 5000, 30_001):
        expected = of_the_whole(SOUND[:length], windows, 25)
        found = list(window_sounds(Blocks(SOUND[:length], 320), windows, 25))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("overlap", [0, 10, 20])
def test_a_window_is_given_as_soon_as_its_samples_are_there(overlap):
    windows, size = WindowConfig(overlap=overlap), 800
    recording = Blocks(SOUND, size)
    last = len(of_the_whole(SOUND, windows, 25)) - 1
    for window, _ in enumerate(window_sounds(recording, windows, 25)):
        end = round(4 * window * (21 - overlap) * 640) + 81 * 640
        if window < last:
            assert recording.read == min(-(-end // size) * size, len(SOUND))
