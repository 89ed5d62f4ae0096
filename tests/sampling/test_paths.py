"""What is read and written, looked at before any work; and latents that are kept."""

import resource
from pathlib import Path

import numpy as np
import pytest

from stableavatar_jax.errors import Mistake
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.sampling.latents import LatentsWriter, kept, read_latents
from stableavatar_jax.sampling.paths import check_written, split_scale
from stableavatar_jax.sampling.progress import Finished

SHAPE = (4, 2, 3, 16)
Z = np.random.default_rng(0).standard_normal(SHAPE, np.float32)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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


def test_latents_take_their_name_with_the_last(tmp_path):
    with LatentsWriter(tmp_path / "z.npy", SHAPE) as file:
        file.append(Z[:3])
        assert not (tmp_path / "z.npy").exists()
        file.append(Z[3:])
        assert names(tmp_path) == ["z.npy"]
    np.testing.assert_array_equal(read_latents(tmp_path / "z.npy", SHAPE), Z)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_latents_that_are_cut_short_leave_what_was_there(tmp_path, error):
    (tmp_path / "z.npy").write_text("older")

    def cut():
        with LatentsWriter(tmp_path / "z.npy", SHAPE) as file:
            file.append(Z[:3])
            if error:
                raise error

    if error:
        with pytest.raises(error):
            cut()
    else:
        cut()
    assert names(tmp_path) == ["z.npy"] and (tmp_path / "z.npy").read_text() == "older"


def test_finished_latents_stay_when_the_video_fails(tmp_path, capsys):
    output = tmp_path / "talk.mp4"
    with pytest.raises(KeyboardInterrupt), kept(None, output, SHAPE) as tell:
        tell(Finished(Z))
        raise KeyboardInterrupt
    assert names(tmp_path) == ["talk.latents.npy"]
    assert f"--decode-only {tmp_path / 'talk.latents.npy'}" in capsys.readouterr().err
    with kept(None, output, SHAPE) as tell:
        tell(Finished(Z))
        assert names(tmp_path) == ["talk.latents-2.npy", "talk.latents.npy"]
    assert names(tmp_path) == ["talk.latents.npy"]  # of the run before; it is not this one's to remove
    with kept(tmp_path / "z.npy", output, SHAPE) as tell:
        tell(Finished(Z))
    assert names(tmp_path) == ["talk.latents.npy", "z.npy"]


@pytest.mark.parametrize("asked", [False, True])
def test_a_full_disk_costs_the_latents_and_not_the_video(tmp_path, capsys, asked):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    made = []

    def run():
        with kept(tmp_path / "z.npy" if asked else None, tmp_path / "talk.mp4", SHAPE) as tell:
            for z in Z:
                tell(Finished(z[None]))
            made.append("video")

    try:
        if asked:
            with pytest.raises(Mistake, match="z.npy: cannot be written .File too large"):
                run()
        else:
            run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert made == ["video"] and names(tmp_path) == []
    assert "the video is made without keeping its latents" in capsys.readouterr().err


def test_a_second_run_does_not_take_the_latents_of_the_first(tmp_path):
    with LatentsWriter(tmp_path / "z.npy", SHAPE) as file:
        with pytest.raises(Mistake, match="process .* is writing it"), LatentsWriter(tmp_path / "z.npy", SHAPE):
            pytest.fail("opened")
        file.append(Z)


def test_room_is_looked_for_before_the_work(tmp_path):
    config = change(SampleConfig(), output=tmp_path / "talk.mp4", checkpoint=tmp_path)
    check_written(config, 100, 26)
    for frames, latents in ((10**10, 0), (0, 10**10)):
        with pytest.raises(Mistake, match="are needed there, .* are free; make room"):
            check_written(config, frames, latents)
    for name in ("dit/x.mp4", "config.json", "vae.safetensors"):
        (tmp_path / "dit").mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
        with pytest.raises(Mistake, match="is an input too|lies in"):
            check_written(change(config, output=tmp_path / name))
