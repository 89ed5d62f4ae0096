"""What is measured in pictures of a known character."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax.world.character import draw_character
from stableavatar_jax.world.correlation import correlation
from stableavatar_jax.world.draw import Pose, masks, render
from stableavatar_jax.world.identity import identity, identity_distance
from stableavatar_jax.world.measure import lip_psnr, mouth_opening, shut_at
from stableavatar_jax.world.motion import draw_poses
from stableavatar_jax.world.mouth import Mouth
from stableavatar_jax.world.speech import Phoneme

FRAMES = 24
CURVE = (0.5 - 0.5 * np.cos(np.arange(FRAMES) * 0.7)).astype(np.float32)
CHARACTERS = {"person": 3, "animal": 2}


def film(character, opening, colour=None):
    """The character moving about."""
    mouth = Mouth(opening, np.linspace(0.2, 0.9, FRAMES, dtype=np.float32))
    poses = draw_poses(mouth, np.ones(FRAMES), np.random.default_rng(1))
    return np.stack([render(character, pose) for pose in poses]), poses, mouth


@pytest.mark.parametrize("seed", CHARACTERS.values(), ids=CHARACTERS)
def test_the_mouth_is_read_from_frames(seed):
    character = draw_character(seed)
    frames, _, mouth = film(character, CURVE)
    seen = mouth_opening(frames, character)
    assert correlation(seen.opening, mouth.opening, 2) > (0.98, 0) and correlation(seen.opening, CURVE, 2).lag == 0
    assert np.abs(seen.opening - mouth.opening).mean() < 0.05
    opened = CURVE > 0.3
    assert np.corrcoef(seen.width[opened], mouth.width[opened])[0, 1] > 0.9
    soft = [Image.fromarray(frame).resize((40, 40)).resize((96, 96)) for frame in frames]
    assert correlation(mouth_opening(np.stack(list(map(np.asarray, soft))), character).opening, CURVE).r > 0.9


@pytest.mark.parametrize("seed", CHARACTERS.values(), ids=CHARACTERS)
def test_a_darker_mouth_is_no_wider_one(seed):
    character = draw_character(seed)
    frames, poses, _ = film(character, np.zeros(FRAMES, np.float32))
    lips = np.stack([masks(character, pose)[1] for pose in poses])[..., None] / 255
    darker = (frames * (1 - 0.6 * CURVE[:, None, None, None] * lips)).astype(np.uint8)
    seen = mouth_opening(darker, character).opening
    assert seen.max() < 0.12 and abs(correlation(seen, CURVE).r) < 0.3


@pytest.mark.parametrize("seed", CHARACTERS.values(), ids=CHARACTERS)
def test_a_character_stays_itself(seed):
    character = draw_character(seed)
    frames, _, _ = film(character, CURVE)
    assert identity_distance(identity(frames[::6], character)).max() < 0.6
    assert identity_distance(identity(frames[:1], draw_character(seed + 50))).min() > 2
    warmer = (frames[:1] * np.array([1.0, 0.9, 0.75])).astype(np.uint8)
    assert identity_distance(identity(warmer, character)).min() > 1
    wide = dataclasses.replace(character, head_width=1.15 * character.head_width)
    assert identity(render(wide, Pose())[None], character)["head_width"][0] > 0.04


def test_correlation_and_its_lag():
    later = np.roll(CURVE, 2)
    assert correlation(later, CURVE, 3).lag == 2 and correlation(CURVE, later, 3).lag == -2
    assert correlation(CURVE, CURVE, 3) == (pytest.approx(1), 0)
    assert correlation(CURVE * 0.05, CURVE).r == 0, "what hardly moves follows nothing"
    with pytest.raises(ValueError, match="24 and 23 frames"):
        correlation(CURVE, CURVE[1:])


def test_shut_at_closures():
    opening = np.ones(25, np.float32)
    opening[[5, 6]] = 0.02
    phonemes = [Phoneme("a", 0.0, 0.2), Phoneme("m", 0.2, 0.28), Phoneme("a", 0.28, 0.5), Phoneme("ˈp", 0.5, 0.6)]
    np.testing.assert_allclose(shut_at(phonemes, opening), [0.02, 1], atol=1e-6)


def test_lip_psnr_looks_at_the_lips_alone():
    truth = np.full((2, 8, 8, 3), 100, np.uint8)
    frames, lips = truth.copy(), np.zeros((2, 8, 8), np.float32)
    frames[:, :4] += 90
    lips[:, 4:] = 1
    assert lip_psnr(frames, truth, lips) > 100
    frames[:, 4:] += 10
    assert lip_psnr(frames, truth, lips) == pytest.approx(20 * np.log10(25.5), abs=1e-4)
