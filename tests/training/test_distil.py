"""A student learns what its teacher does in several evaluations, and changes nothing of it."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.config import from_json
from stableavatar_jax.diffusion.guidance import audio_native, cfg, none
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import LoRAConfig
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.sampling.defaults import SamplingDefaults
from stableavatar_jax.training import defaults, loop
from stableavatar_jax.training.__main__ import main
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.directory import settle
from stableavatar_jax.training.logs import read_rows
from stableavatar_jax.training.parts import distil
from stableavatar_jax.training.parts.config import StepConfig
from stableavatar_jax.training.parts.distil_config import DistilConfig, StudentConfig, TeacherConfig
from stableavatar_jax.training.parts.distil_step import (
    NEGATIVE,
    TEACHER,
    guided_velocity,
    levels_below,
    on_the_grid,
    student_of,
    target_velocity,
    teacher_of,
)
from stableavatar_jax.training.parts.dit_step import draw, points, predicted
from stableavatar_jax.training.run import fresh_state
from tests.params import random_params
from tests.training import tiny
from tests.training.runs import assert_same_run, assert_same_state, records

FOUR = StudentConfig(steps=4, substeps=2)
DRAWN = StepConfig(silent=0.0, clip_level=0.0)


def config(**changes) -> DistilConfig:
    """The tiny model's training, as distillation of a LoRA."""
    base = {each.name: getattr(tiny.config(), each.name) for each in dataclasses.fields(tiny.config())}
    for name in ("part", "step", "validation"):
        del base[name]
    optimizer = OptimizerConfig(learning_rate=1e-2, warmup=2, weight_decay=0.0, clip=(1.0, 1.0), ema=0.0)
    usual = {"train": "lora", "lora": LoRAConfig(rank=2, alpha=2.0), "student": FOUR, "optimizer": optimizer}
    return DistilConfig(**(base | usual | changes))


@pytest.fixture(scope="module")
def frozen():
    """A teacher of weights that all matter."""
    return {TEACHER: random_params(DiT(tiny.MODEL.dit))}


@pytest.fixture(scope="module")
def drawn():
    batch = jax.tree.map(jnp.asarray, tiny.batch(0))
    draws = draw(jax.random.key(1), batch["latents_mean"].shape, DRAWN)
    return *points(batch, draws), draws


def teacher(guidance, frozen, drawn):
    batch, z, reference, draws = drawn
    model = DiT(tiny.MODEL.dit)
    return jax.jit(lambda f, z, s: guided_velocity(model, guidance, f, batch, reference)(z, s))(frozen, z, draws.level)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(frozen, drawn):
    """The teacher is evaluated as sampling does it, the student as training does it."""
    batch, z, reference, draws = drawn
    student = jax.jit(lambda p: predicted(DiT(tiny.MODEL.dit), {"params": p}, batch, draws, z, reference))
    np.testing.assert_allclose(teacher(none(), frozen, drawn), student(frozen[TEACHER]), atol=1e-6)


def test_the_guided_velocity_is_made_of_its_branches(frozen, drawn):
    """By hand, from plain evaluations: away from silence, and from another text."""
    batch, z, reference, draws = drawn
    model, negative = DiT(tiny.MODEL.dit), jax.random.normal(jax.random.key(2), (6, 12))

    def plain(params, batch, **changes):
        return predicted(model, {"params": params}, {**batch, **changes}, draws, z, reference)

    plain = jax.jit(plain)
    sound = plain(frozen[TEACHER], batch)
    silence = plain(frozen[TEACHER], batch, audio=jnp.zeros_like(batch["audio"]))
    np.testing.assert_allclose(
        teacher(audio_native(0.5, 0.0), frozen, drawn), 1.5 * sound - 0.5 * silence, atol=1e-5
    )
    text, mask = jnp.broadcast_to(negative, (2, 6, 12)), jnp.ones((2, 6), bool)
    other = jax.jit(plain)(frozen[TEACHER], batch, text=text, text_mask=mask)
    guidance = cfg(3.0, 1.0)  # where the scale of audio is 1, two branches are left
    np.testing.assert_allclose(
        teacher(guidance, frozen | {NEGATIVE: negative}, drawn), 3 * sound - 2 * other, atol=1e-5
    )


def test_the_target_is_the_mean_velocity_of_the_way():
    """A teacher whose velocity is z goes, in Euler's steps, from z to z times a product over its levels."""
    levels = on_the_grid(jnp.asarray([0.97, 0.6]), FOUR, 3.0)
    way = levels_below(levels, FOUR, 3.0)
    grid = list(FOUR.levels(3.0))
    np.testing.assert_allclose(grid, [1, 0.9, 0.75, 0.5, 0])
    np.testing.assert_allclose(levels, [1.0, 0.75], rtol=1e-6)
    np.testing.assert_allclose(way[-1], [0.9, 0.5], rtol=1e-6)
    z = jax.random.normal(jax.random.key(0), (2, 1, 2, 2, 3))
    found = target_velocity(lambda z, s: z, z, levels, FOUR, 3.0)
    factor = np.prod(1 + np.diff(way, axis=0), axis=0)
    want = z * ((factor - 1) / (np.asarray(way[-1]) - np.asarray(levels)))[:, None, None, None, None]
    np.testing.assert_allclose(found, want, rtol=1e-4)
    last = levels_below(jnp.asarray([0.5]), FOUR, 3.0)
    np.testing.assert_allclose(last[-1], 0, atol=1e-6)


def test_every_level_goes_to_one_at_which_the_student_is_evaluated():
    found = on_the_grid(jnp.linspace(1e-4, 1, 1000), FOUR, 5.0)
    np.testing.assert_allclose(np.unique(np.round(found, 4)), sorted(np.round(FOUR.levels(5.0)[:-1], 4)))


@pytest.fixture(scope="module")
def run():
    return distil.prepare(config())


def learn(folder: Path, run, batches=None, **changes):
    options = settle(config(run_dir=folder, **changes))
    return loop.train(dataclasses.replace(run, config=options), batches or tiny.Synthetic())


class Same(tiny.Synthetic):
    """One batch again and again."""

    def __next__(self):
        self.place += 1
        return tiny.batch(0)


def test_a_lora_learns_and_its_base_stays(run, tmp_path, capsys):
    """The frozen weights, which are the teacher's, are there once; what is exported has the LoRA in it."""
    state = learn(tmp_path / "run", run, Same(), steps=30)
    loss = [row["loss"] for row in read_rows(tmp_path / "run" / "metrics.csv")]
    assert np.mean(loss[-8:]) < 0.7 * np.mean(loss[:8]), loss
    assert_same_state(state.frozen, fresh_state(run).frozen)
    size = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
    assert size(state.frozen[TEACHER]) == size(state.params["params"])
    assert size(teacher_of(state.frozen)) == size(student_of(state.params, state.frozen)["params"])
    output = tmp_path / "model"
    assert main(["--run-dir", str(tmp_path / "run"), "--export", str(output), "--mesh.fsdp", "1"]) == 0
    assert "dit of step 30" in capsys.readouterr().out and (output / "lora.safetensors").is_file()


def test_a_lora_alone_needs_no_second_teacher():
    state = distil.prepare(config(train="lora_alone")).abstract
    assert set(state.params) == {"lora"} and set(state.frozen) == {"lora", "params"}
    assert teacher_of(state.frozen) == state.frozen["params"]


def test_two_halves_equal_the_whole(run, tmp_path):
    whole = learn(tmp_path / "whole", run, steps=4, checkpoint_every=2)
    learn(tmp_path / "halves", run, steps=2, checkpoint_every=2)
    assert_same_state(whole, learn(tmp_path / "halves", run, steps=4, checkpoint_every=2))
    assert_same_run(tmp_path / "whole", tmp_path / "halves")


def test_the_student_is_sampled_in_its_steps(tmp_path):
    data = records(tmp_path / "records")
    few, any_number = (defaults.of_data(config(data=data, student=each)) for each in (FOUR, StudentConfig()))
    told = from_json(SamplingDefaults, few).denoising
    assert (told.guidance, told.steps, told.shift) == ("none", 4, 5.0)
    np.testing.assert_allclose([*told.fewer.levels, 0], FOUR.levels(5.0), atol=1e-6)
    assert any_number["denoising"]["guidance"] == "none" and "steps" not in any_number["denoising"]


def test_the_teacher_is_guided_as_its_directory_says(tmp_path):
    (tmp_path / "sampling.json").write_text(json.dumps({"denoising": {"w1": 0.5, "w2": 0.0}}))
    assert distil.guidance_of(config(checkpoint=tmp_path)) == (audio_native(0.5, 0.0), None)
    guided = config(checkpoint=tmp_path, teacher=TeacherConfig(guidance="cfg", negative_prompt="noise"))
    assert distil.guidance_of(guided) == (cfg(), "noise")


def test_what_cannot_be_learned_is_refused(tmp_path):
    alike = StudentConfig(steps=4, substeps=1)
    for student, needed in ((StudentConfig(), "--student.steps"), (alike, "--student.substeps of 2")):
        with pytest.raises(Mistake, match=needed):
            distil.check(config(student=student, teacher=TeacherConfig(guidance="none")))
    with pytest.raises(Mistake, match="step.silent is 0.1, 0 is needed"):
        config(step=StepConfig())
    with pytest.raises(Mistake, match="student.steps is -1"):
        StudentConfig(steps=-1)
    with pytest.raises(Mistake, match="--checkpoint is missing"):
        settle(config(train="all", random_weights=False))
