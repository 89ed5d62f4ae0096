"""The plan printed before a run: counts by hand, and memory against the compiler's."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from stableavatar_jax.configs import avatar_1b, avatar_14b, tiny
from stableavatar_jax.diffusion import solvers
from stableavatar_jax.frames import IMAGE_TOKENS
from stableavatar_jax.models.audio_adapter import AudioSlots
from stableavatar_jax.models.avatar import abstract_params, part
from stableavatar_jax.models.dit import Context
from stableavatar_jax.models.flops import decoder_flops, dit_flops
from stableavatar_jax.models.vae import VAE
from stableavatar_jax.plan import cost as plan
from stableavatar_jax.plan import machine as machines
from stableavatar_jax.plan.machine import machine, matrix_speed
from stableavatar_jax.presets import load_preset
from stableavatar_jax.sampling.config import change
from stableavatar_jax.sampling.plain import Stretch, make_sweep
from stableavatar_jax.sampling.program import Own
from stableavatar_jax.sampling.timeline import timeline
from stableavatar_jax.sampling.velocity import Shared, make_velocity
from tests.models.devices import Named

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("name", sorted({path.stem for path in CONFIGS.glob("[a-z]*.py")} - {"models"}))
def test_every_preset_loads(name):
    load_preset(CONFIGS / f"{name}.py")


H100 = machine(Named("gpu", "NVIDIA H100 80GB HBM3"), "bfloat16")


def cost(config, samples=16000):
    return plan.plan(config, timeline(samples, config.frame.fps, config.denoising.windows))


def test_a_minute_by_hand():
    """61 s at 25 frames/s: 1525 frames, 382 latent frames, windows every 11 of them."""
    config = avatar_1b.config
    told = cost(config, 61 * 16000)
    assert (told.time.frames, told.time.windows.frames, told.time.windows.count) == (1525, 382, 34)
    assert told.evaluations == 34 * 50 * 3
    alone = dit_flops(config.model.dit, (21, 60, 104))
    assert 0.97 < told.operations["denoising"] / (34 * 50 * 3 * alone) <= 1  # the adapter runs twice, not three times
    words = plan.describe(config, told, H100)
    assert "1525 frames, 61.00 s" in words and "34 of 21 latent frames, 10 shared" in words and "5100 evalua" in words


def test_guidance_that_is_off_costs_nothing():
    base = avatar_1b.config
    off = change(base, w1=0.0, w2=0.0)
    none = change(base, guidance="none")
    assert len({cost(each).operations["denoising"] for each in (off, none)}) == 1
    assert cost(off).operations["denoising"] < cost(base).operations["denoising"] / 2


def test_largest_stage_of_each_size():
    small, large = (cost(preset.config, 160000).memory for preset in (avatar_1b, avatar_14b))
    assert max(small, key=small.get) == "text encoder"  # 5.7 G parameters in bfloat16
    assert small["text encoder"] == pytest.approx(15.6e9, rel=0.01)  # 11.4 GB, and what reading it takes
    assert max(large, key=large.get) == "transformer" and 38e9 < large["transformer"] < 70e9


def test_memory_is_near_what_the_compiler_needs():
    """The 1.3B program on small frames, compiled and not run: arguments and temporaries against the plan."""
    config = change(avatar_1b.config, height=128, width=128, dtype="float32", batches=1)
    model = dataclasses.replace(config.model, dit=dataclasses.replace(config.model.dit, layers=2))
    config = dataclasses.replace(config, model=model)
    dit = part(config.model, "dit")
    c, shape = dit.config, jax.ShapeDtypeStruct
    text, image = (shape((c.layers, 2, n, c.dim), "float32") for n in (c.text_len, IMAGE_TOKENS))
    silence = AudioSlots(shape((1, 21, 15, c.dim), "float32"), shape((21,), "int32"))
    reference = shape((1, 21, 16, 16, 20), "float32")
    shared = Shared(abstract_params(dit), Context((text, text), (image, image)), reference, silence)
    solver = solvers.solver("euler", 2)
    z, tail = shape((11, 16, 16, 16), "float32"), shape((10, 16, 16, 16), "float32")
    kept = shape(jax.eval_shape(lambda z: solvers.init(solver, z), z).shape, "float32")
    sweep = make_sweep(make_velocity(dit, config.denoising.guided()), solver, config.denoising.windows)
    number = shape((), jnp.int32)
    own = Own(shape((1, 1, 21, 15, c.dim), "float32"), shape((1, 1), jnp.int32))
    compiled = sweep.lower(
        Stretch(z, kept), tail, tail, number, number, number, shared, own
    ).compile()
    need = compiled.memory_analysis()
    actual = need.argument_size_in_bytes + need.temp_size_in_bytes
    told = cost(config).memory["transformer"]
    assert 0.6 < told / actual < 1.7, (told, actual)


def test_a_machine_of_no_table_is_measured(monkeypatch):
    assert matrix_speed("float32", 256) > 1e8
    monkeypatch.setattr(machines, "matrix_speed", lambda dtype: 1e11)
    told = machine(Named("gpu", "NVIDIA H300"), "bfloat16")
    assert told.rates["decoding"] == 0.4e11 and told.bandwidth is None and "measured" in told.told


def test_one_evaluation_takes_the_time_measured_on_an_h100():
    """515 to 521 ms for one branch (docs/performance.md), of attention, products and what goes through memory."""
    config = change(avatar_1b.config, steps=1, guidance="none")
    told = cost(config)
    took = plan.seconds(config, told, H100)["denoising"] - told.weights["denoising"] / plan.READING
    assert took / told.time.windows.count == pytest.approx(0.518, rel=0.05)


def test_time_counts_every_stage_of_a_run():
    """The H100 of docs/performance.md, 10 steps of two windows: 60 s of which 30.6 denoising, compiled."""
    config = change(avatar_1b.config, steps=10)
    told = cost(config, 5 * 16000)
    each = plan.seconds(config, told, H100)
    assert list(each) == ["compiling", "encoding", "denoising", "decoding"]
    assert each["compiling"] == 110 and 30 < sum(each.values()) - 110 < 90
    assert each["denoising"] == pytest.approx(30.6 + told.weights["denoising"] / plan.READING, rel=0.1)
    decoded = told.operations["decoding"] / told.time.windows.frames / H100.rates["decoding"]
    assert decoded == pytest.approx(46.5e-3, rel=0.1)  # measured
    words = plan.describe(config, told, H100)
    assert all(f"{stage} " in words.splitlines()[-1] for stage in each) and "earlier run" in words


def test_time_of_what_is_given_is_not_counted():
    given = change(tiny.config, conditions=Path("c.safetensors"))
    assert "encoding" not in plan.seconds(given, cost(given), H100)


def test_operations_of_the_decoder_are_those_that_xla_counts():
    config = tiny.model.vae
    vae, z = VAE(config), jax.ShapeDtypeStruct((1, 1, 8, 12, 16), "float32")
    params = abstract_params(vae)
    decode = lambda params, z, cache=None: vae.apply({"params": params}, z, cache, method="decode")  # noqa: E731
    _, cache = jax.eval_shape(decode, params, z)
    counted = jax.jit(decode).lower(params, z, cache).cost_analysis()["flops"]
    assert decoder_flops(config, 64, 96) == pytest.approx(counted, rel=0.1)


def test_the_plan_of_decoding_alone_tells_no_evaluations():
    decoding = change(tiny.config, decode_only=Path("z.npy"))
    words = plan.describe(decoding, cost(decoding), H100)
    assert "25 frames" in words and "decoder" in words and "evaluations" not in words and "denoising" not in words
