"""What is read and written, looked at before any work; and latents that are kept."""

import resource
from pathlib import Path

import numpy as np
import pytest

from stableavatar_jax.errors import Mistake
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.sampling.latents import LatentsFile, read_latents
from stableavatar_jax.sampling.paths import check_given, check_weights, check_written, run_folder, split_scale
from stableavatar_jax.sampling.progress import Finished
from stableavatar_jax.sampling.restart import identity

SHAPE = (4, 2, 3, 16)
Z = np.random.default_rng(0).standard_normal(SHAPE, np.float32)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_transformer_belongs_to_a_checkpoint(tmp_path):
    """It is part of what a video is made from."""
    other = change(SampleConfig(), random_weights=True, transformer=tmp_path)
    with pytest.raises(Mistake, match="--transformer needs --checkpoint"):
        check_weights(other)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Mistake, match="student"):
        check_weights(change(other, checkpoint=tmp_path, transformer=tmp_path / "student"))
    before = identity(other)
    (tmp_path / "dit.safetensors").write_bytes(b"weights")
    assert identity(other)["transformer"] != before["transformer"]


def test_a_colon_is_a_scale_where_no_file_has_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "a:1", "b:style"):
        Path(name).write_text("")
    for option, path, scale in (("a", "a", 1), ("a:0.5", "a", 0.5), ("a:1", "a:1", 1), ("a:1:2", "a:1", 2),
                                ("b:style", "b:style", 1), ("a:-1e-1", "a", -0.1), ("c", "c", 1)):  # fmt: skip
        assert split_scale(option) == (Path(path), scale)
    for option in ("a:nan", "a:inf", "a:-inf", "a:1e999", "a:", "a:much", ":1", "dir:x/a"):
        with pytest.raises(Mistake, match="is not a scale; give PATH or PATH:SCALE"):
            split_scale(option)


def test_latents_are_written_in_their_places_and_given_when_whole(tmp_path):
    for first in (0, 2):  # a run that is taken up again writes some of them a second time
        file = LatentsFile(tmp_path / "kept.npy", SHAPE)
        for start in range(first, len(Z)):
            file(Finished(start, Z[start : start + 1]))
        assert names(tmp_path) == ["kept.npy"]
    file.give(tmp_path / "z.npy")
    assert names(tmp_path) == ["z.npy"]
    np.testing.assert_array_equal(read_latents(tmp_path / "z.npy", SHAPE), Z)


def test_a_full_disk_costs_the_latents_and_not_the_video(tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        file = LatentsFile(tmp_path / "kept.npy", SHAPE)
        for start, z in enumerate(Z):
            file(Finished(start, z[None]))
        with pytest.raises(Mistake, match="kept.npy: cannot be written .File too large"):
            file.give(tmp_path / "z.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []
    file = LatentsFile(tmp_path / "kept.npy", SHAPE, begun=True)  # the run goes on with room, but without the first
    file(Finished(2, Z[2:3]))
    with pytest.raises(Mistake, match="the latents of before are not kept; --restart makes them all again"):
        file.give(tmp_path / "z.npy")
    assert names(tmp_path) == []
    assert capsys.readouterr().err.count("the video is made without keeping its latents") == 1


def test_nothing_that_is_wanted_lies_in_the_run_which_goes(tmp_path):
    folder = run_folder(tmp_path / "talk.mp4")
    folder.mkdir()
    (folder / "conditions.safetensors").write_text("features")
    (tmp_path / "link").symlink_to(folder / "conditions.safetensors")
    config = change(SampleConfig(), output=tmp_path / "talk.mp4")
    for options in (
        {"conditions": folder / "conditions.safetensors"}, {"conditions": tmp_path / "link"},
        {"latents": folder / "z.npy"}, {"decode_only": folder / "latents.npy"},
    ):  # fmt: skip
        with pytest.raises(Mistake, match="lies in the run of .*talk.mp4, which goes when that is whole; move it"):
            check_written(change(config, **options))
    check_written(change(config, conditions=tmp_path / "c.safetensors"))


def test_room_is_looked_for_before_the_work(tmp_path):
    config = change(SampleConfig(), output=tmp_path / "talk.mp4", checkpoint=tmp_path)
    check_written(config, 100, 26)
    keeping = change(config, latents=tmp_path / "z.npy")
    for frames, latents in ((10**10, 0), (0, 10**10)):
        with pytest.raises(Mistake, match="are needed there, .* are free; make room"):
            check_written(keeping, frames, latents)
    for name in ("dit/x.mp4", "config.json", "vae.safetensors"):
        (tmp_path / "dit").mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
        with pytest.raises(Mistake, match="is an input too|lies in"):
            check_written(change(config, output=tmp_path / name))


@pytest.mark.parametrize("options", [{"audio_track": 1}, {"start": 1.0}, {"duration": 1.0}, {"order": "plain"}])
def test_a_live_sound_has_no_parts(options):
    config = change(SampleConfig(), image=Path(__file__), audio=Path("-"), random_weights=True, **options)
    option = "--order plain" if "order" in options else f"--{next(iter(options)).replace('_', '-')}"
    with pytest.raises(Mistake, match=f"{option} needs a recording whose end is known"):
        check_given(config)


@pytest.mark.parametrize("options", [{"audio_track": 0}, {"start": -1.0}, {"start": float("nan")}, {"duration": 0.05},
                                     {"duration": float("inf")}])  # fmt: skip
def test_parts_of_a_sound_that_cannot_be(options):
    with pytest.raises(Mistake, match=f"{next(iter(options))} is {next(iter(options.values()))}, "):
        change(SampleConfig(), **options)


@pytest.mark.parametrize("options", [{"image": None, "conditions": Path(__file__)}, {"decode_only": Path(__file__)},
                                     {"save_conditions": Path("a")}])  # fmt: skip
def test_a_preview_needs_a_picture_and_noise(options):
    given = {"image": Path(__file__), "audio": Path(__file__), "preview": Path("a.png"), "random_weights": True}
    with pytest.raises(Mistake, match="--preview shows what noise becomes"):
        check_given(change(SampleConfig(), **given | options))
    with pytest.raises(Mistake, match="preview is a.txt, a name that ends in .png or .jpg is needed"):
        change(SampleConfig(), preview=Path("a.txt"))
