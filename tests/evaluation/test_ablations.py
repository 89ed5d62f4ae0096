"""The paper's ablations at a tiny size: what is made, what is kept, what is printed."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from benchmarks import ablation_models, ablations
from benchmarks.ablation_tables import CHEAPER, TABLES
from stableavatar_jax import commands
from stableavatar_jax.checkpoint import iterate_params, save_params
from stableavatar_jax.config import read_config, write_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.avatar import part
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import load_preset
from stableavatar_jax.sampling import video
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.sharding import initialise
from stableavatar_jax.training import defaults, work
from tests.training.tiny import MODEL, Synthetic, config


def run(folder, *arguments):
    command = [*map(str, arguments), "--preset", "tiny", "--seconds", "2", "--output", str(folder)]
    return commands.main(ablations.Ablations, command)


def cells(folder):
    return [json.loads(line) for line in (folder / ablations.CELLS).read_text().splitlines()]


def test_a_stopped_table_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    """Of three rows and two characters the third cell is interrupted; nothing that is there is made again."""
    made = []

    def judged(frames, known, windows):
        if len(made) == 2:
            made.append("stopped")
            raise KeyboardInterrupt
        made.append((known.clip.id, len(frames)))
        return {name: float(len(made)) for name in ("r", "seam")}

    monkeypatch.setattr(video, "frames", lambda job, avatar: [np.zeros((job.timeline.frames, 64, 64, 3), np.uint8)])
    monkeypatch.setattr(ablations, "judge", judged)
    monkeypatch.setattr(ablations, "SHOWN", ("r", "seam", "evaluations"))
    command = (tmp_path, "8", "--characters", 0, 1, "--rows", "linear (uniformed gap)", "fixed")
    assert run(*command) == 130 and len(cells(tmp_path)) == 2
    assert run(*command) == 0 and len(cells(tmp_path)) == 4
    assert made == [("test/0/0000-0", 51)] * 2 + ["stopped"] + [("test/0/0001-0", 51)] * 2
    shown = capsys.readouterr().out
    assert "2 videos a row" in shown and "| fixed | 3.5 ± 1.5 |" in shown and "+1.000 ± 0" in shown
    assert run(*command) == 0 and len(made) == 5, "everything is there already"
    (tmp_path / ablations.CELLS).write_text("no cells\n")
    assert run(*command) == 1 and "no file of finished cells" in capsys.readouterr().err


def test_a_cell_is_a_video_that_is_measured(tmp_path, capsys):
    assert run(tmp_path, "5", "--characters", 0, "--rows", "none") == 0
    (cell,) = cells(tmp_path)
    assert cell["cell"]["denoising"]["guidance"] == "none" and "w1" not in cell["cell"]["denoising"]
    measured = cell["measured"]
    assert measured["evaluations"] == 2 and {"r", "late_r", "seam", "proportions", "wall"} <= measured.keys()
    assert "| none |" in capsys.readouterr().out


def test_lips_are_compared_with_those_of_the_first_row(tmp_path, monkeypatch):
    """Its video is made once for a pair, and kept; frames of grey level n are n away from it."""
    made = []

    def frames(job, avatar):
        made.append(len(made))
        return [np.full((job.timeline.frames, 64, 64, 3), len(made) - 1, np.uint8)]

    monkeypatch.setattr(video, "frames", frames)
    monkeypatch.setattr(ablations, "judge", lambda made, known, windows: dict.fromkeys(("r", *CHEAPER), 0.0))
    names = ("16 steps x 2, full", "16 steps x 2, reuse")
    for count in (1, 2):
        assert run(tmp_path, "fewer", "--characters", 0, "--rows", *names[:count]) == 0 and len(made) == count
    full, reuse = (cell["measured"]["lip_psnr"] for cell in cells(tmp_path))
    assert full > 100 and reuse == pytest.approx(20 * np.log10(255))


def test_every_row_is_a_way_of_sampling():
    """Options are ones that exist, and no two rows of a table are the same."""
    usual = change(load_preset("demo", SampleConfig), enlarge=1)
    for name, table in TABLES.items():
        keys = [
            (
                row.adapter, row.cache, row.options.get("transformer"),
                ablations.as_text(ablations.decisive(change(usual, **row.options).denoising)),
            )  # fmt: skip
            for row in table.rows.values()
        ]
        assert len(set(keys)) == len(keys) > 1, name


@pytest.mark.parametrize(("options", "told"), [
    (["7"], "there are 3, 4, 5"), (["8", "--rows", "cubic"], "row 'cubic' is unknown"),
    (["8", "--seconds", "1"], "seconds 2 or more"), (["8", "--characters", "-1"], "0 or above"),
])  # fmt: skip
def test_options_that_cannot_be(tmp_path, options, told, capsys):
    assert commands.main(ablations.Ablations, [*options, "--output", str(tmp_path)]) == 2
    assert told in capsys.readouterr().err


def test_models_of_table_3_begin_alike_and_are_trained(tmp_path, monkeypatch):
    start = tmp_path / "start"
    save_params(start / "dit", initialise(part(MODEL, "dit"), jax.random.key(5)))
    write_config(start, MODEL)
    shipped = dict(iterate_params(start / "dit"))
    part_ = dataclasses.replace(
        work.PARTS["dit"], check=lambda config: None, open_data=lambda config, host, hosts: Synthetic()
    )
    monkeypatch.setitem(work.PARTS, "dit", part_)
    monkeypatch.setattr(ablation_models, "load_preset", lambda name, cls: config(train="all"))
    monkeypatch.setattr(defaults, "of_data", lambda config: {})
    told = {"preset": "tiny", "records": tmp_path / "records", "steps": 3}
    folder = ablation_models.trained(tmp_path / "models", "project", start, **told)
    assert read_config(folder, AvatarConfig).dit.adapter.ablation == "project"
    begun = dict(iterate_params(tmp_path / "models" / "project-3.start" / "dit"))
    assert not any("block" in path for path in begun if path.startswith("audio_adapter/"))
    assert begun.keys() < shipped.keys()
    for path, value in begun.items():
        same = np.array_equal(value, shipped[path])
        assert same != (path == "audio_adapter/projection/linear_0/kernel"), path
    trained = dict(iterate_params(folder / "dit"))
    assert trained.keys() == begun.keys() and not np.array_equal(trained["head/kernel"], begun["head/kernel"])
    monkeypatch.setattr(work, "train", None)  # a second call trains nothing
    assert ablation_models.trained(tmp_path / "models", "project", start, **told) == folder
    with pytest.raises(Mistake, match="--records"):
        ablation_models.trained(tmp_path / "models", "full", start, preset="tiny", records=None, steps=1)
