"""The world as a data set, and as pictures to look at."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax.data.clips.dataset import ClipDataset
from stableavatar_jax.world import motion
from stableavatar_jax.world.__main__ import main
from stableavatar_jax.world.build import REST, BuildWorldConfig, build_world, make_clip, speaks
from stableavatar_jax.world.character import draw_character
from stableavatar_jax.world.draw import Pose, render
from stableavatar_jax.world.mouth import Mouth


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return BuildWorldConfig(
        output=tmp_path_factory.mktemp("world") / "clips", characters=2, seconds=1.0, size=48, workers=1
    )


@pytest.fixture(scope="module")
def clips(config):
    assert build_world(config) == 2
    return ClipDataset(config.output)


def test_clips_are_whole_and_know_themselves(clips, config):
    clip = clips[1]
    assert clip == make_clip(config, 1), "a clip follows from its numbers alone"
    clip.check()
    clip.check_masks()
    assert (clip.frames, clip.fps, clip.width, len(clip.samples)) == (26, 25, 48, 26 * 640)
    labels = json.loads(clip.labels)
    character = draw_character(labels["character"])
    assert clip.text == character.caption != clips[0].text
    rest = dict(zip(REST, labels["poses"][9], strict=True))
    pose = Pose(opening=labels["opening"][9], width=labels["width"][9], **rest)
    np.testing.assert_array_equal(render(character, pose, 48), np.asarray(clip.pictures([9])[0]))


def test_whether_a_clip_speaks_is_known_before_it_is_drawn(config):
    small = dataclasses.replace(config, size=16)
    mute = next(number for number in range(100) if not speaks(small, number))
    said = [bool(json.loads(make_clip(small, number).labels)["phonemes"]) for number in (0, mute)]
    assert said == [speaks(small, 0), False] == [True, False]


def test_splits_and_seeds_have_their_own_characters(config):
    small = dataclasses.replace(config, seconds=0.0, size=16)
    others = [small, dataclasses.replace(small, split="test"), dataclasses.replace(small, seed=1)]
    assert len({json.loads(make_clip(other, number).labels)["character"] for other in others for number in (0, 1)}) == 6
    with pytest.raises(ValueError, match="characters is 1 to"):
        dataclasses.replace(config, characters=0)


def test_poses_begin_at_rest_and_stay_in_bounds():
    frames = 500
    mouth = Mouth(np.linspace(0, 1, frames, dtype=np.float32), np.full(frames, 0.5, np.float32))
    for seed in range(5):
        poses = motion.draw_poses(mouth, np.ones(frames), np.random.default_rng(seed))
        assert dataclasses.replace(poses[0], opening=0.0) == Pose()
        assert max(max(abs(p.x), abs(p.y)) for p in poses) <= motion.SHIFT
        assert 0.5 < max(abs(p.roll) for p in poses) <= motion.ROLL
        assert max(abs(a.x - b.x) for a, b in zip(poses, poses[1:], strict=False)) < 0.006, "it moves smoothly"
        shut = [p.blink > 0.9 for p in poses]
        assert 3 <= sum(b and not a for a, b in zip(shut, shut[1:], strict=False)) <= 10, "in twenty seconds"
    still = motion.draw_poses(mouth, np.ones(frames), np.random.default_rng(0), still=True)
    assert still[99] == Pose(opening=round(mouth.opening[99].item(), 5))


def size(path):
    with Image.open(path) as sheet:
        return sheet.size


def test_sheets(clips, config, tmp_path, capsys):
    main(["sheet", "--output", str(tmp_path / "a.png"), "--rows", "2", "--columns", "3", "--size", "32"])
    assert size(tmp_path / "a.png") == (96, 64)
    options = ["--clips", str(config.output), "--rows", "2", "--columns", "5"]
    main(["sheet", "--output", str(tmp_path / "b.png"), *options])
    assert size(tmp_path / "b.png") == (5 * 48, 2 * (48 + 60))
    assert main(["sheet", "--number", "7", *options]) == 1
    assert "it has no clip 7" in capsys.readouterr().err


def test_a_sheet_takes_the_place_of_no_clips(clips, config, capsys):
    index = config.output / "clips.json"
    before = index.read_bytes()
    assert main(["sheet", "--clips", str(config.output), "--output", str(index)]) == 1
    assert "which is read" in capsys.readouterr().err and index.read_bytes() == before
