"""The demo's picture and recording, and the way from them to a video (`make demo`, shortened)."""

import dataclasses

import numpy as np

import sample
from configs import tiny
from stableavatar_jax import media
from stableavatar_jax.demo.__main__ import main
from stableavatar_jax.demo.character import speak


def test_demo(tmp_path):
    main(tmp_path)
    config = dataclasses.replace(
        tiny.config, image=tmp_path / "character.png", audio=tmp_path / "vowels.wav", output=tmp_path / "demo.mp4",
        height=32, width=32, steps=1,
    )
    sample.run(config)
    info = media.probe(config.output)
    assert (info.frames, info.fps, info.sound) == (125, 25, True)


def test_vowels_sound_and_pause():
    sound = speak(3.0)
    assert sound.dtype == np.float32 and len(sound) == 48000 and 0.3 < np.abs(sound).max() <= 1
    loud = np.sqrt(np.square(sound.reshape(-1, 4000)).mean(1))  # four syllables a second
    assert loud[5] < 0.01 < loud[4]
