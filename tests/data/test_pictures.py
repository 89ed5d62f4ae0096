"""Pictures of clips as the image encoder is shown them in training."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax.data.clips.clip import PROMPTS, Clip
from stableavatar_jax.data.clips.dataset import ClipDataset, write_clips
from stableavatar_jax.data.sources.pictures import PictureConfig, PictureSource, relit, shifted, spread

PLAIN = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


def clip(name: str, level: int, prompt: str = "", frames: int = 5) -> Clip:
    """Frame n is grey of `level` + n."""
    files = [io.BytesIO() for _ in range(frames)]
    for n, file in enumerate(files):
        Image.new("RGB", (8, 6), (level + n,) * 3).save(file, "PNG")
    return Clip(id=name, kind="singing", fps=25.0, frames=frames, height=6, width=8, sound_rate=16000, prompt=prompt,
                images=tuple(file.getvalue() for file in files))  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "clips"
    write_clips(folder, lambda: iter([clip("a", 10), clip("b", 100, "A frog")]))
    clips = ClipDataset(folder)
    tokens = {text: (np.array([n], np.int32), np.array([True])) for n, text in enumerate(clips.prompts)}
    return PictureSource(clips, PictureConfig(frames=2, shift=0, light=0.0), tokens)


def test_a_picture_comes_with_its_prompt(source):
    texts = {text: n for n, text in enumerate(source.clips.prompts)}
    for item, text, levels in (0, PROMPTS["singing"], {11, 13}), (1, "A frog", {101, 103}):
        read = [source.read(item, np.random.default_rng(seed)) for seed in range(9)]
        assert {int(row["ids"][0]) for row in read} == {texts[text]} and read[0]["text_mask"].all()
        assert {int(level) for row in read for level in np.unique(row["picture"])} == levels
        assert (source.middle(item)["picture"] == max(levels)).all()
    assert source.buckets == [(6, 8)] * 2
    again = dataclasses.replace(source.config, light=0.2, shift=2)
    drawn = PictureSource(source.clips, again, source.tokens)
    one, same, other = (drawn.read(0, np.random.default_rng(seed))["picture"] for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).any()


def test_pictures_lie_in_the_middle_of_equal_parts():
    assert spread(clip("a", 0, frames=101), 4)[:, 0, 0, 0].tolist() == [12, 37, 63, 88]
    assert spread(clip("a", 0, frames=3), 8)[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_a_moved_picture_repeats_its_edge():
    moved = shifted(PLAIN, 2, -3)
    np.testing.assert_array_equal(moved[2:, :-3], PLAIN[:-2, 3:])
    np.testing.assert_array_equal(moved[:3, -4:], np.broadcast_to(PLAIN[0, -1], (3, 4, 3)))
    np.testing.assert_array_equal(shifted(PLAIN, 0, 0), PLAIN)


def test_light_changes_levels_and_keeps_their_order():
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(relit(PLAIN, 0.0, rng), PLAIN)
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for _ in range(5):
        lit = relit(ramp, 0.3, rng)
        assert (np.diff(lit.astype(int), axis=1) >= 0).all() and (lit != ramp).any()
        assert abs(int(lit[0, 128, 0]) - 128) <= 0.3 * 128 + 2


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"shift": -1}, {"light": 1.0}])
def test_what_cannot_be_asked_for(wrong):
    with pytest.raises(ValueError, match="are needed"):
        PictureConfig(**wrong)
