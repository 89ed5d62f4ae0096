"""Plans of steps: a compiled program is counted rightly, and estimates are near what was measured."""

import json

import jax
import jax.numpy as jnp
import pytest

from stableavatar_jax.chips import PLANNED
from stableavatar_jax.errors import Mistake
from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.plan import __main__ as plan
from stableavatar_jax.plan import topology
from stableavatar_jax.plan.compiled import finish
from stableavatar_jax.plan.program import Program, _first_group
from stableavatar_jax.plan.roofline import cost
from stableavatar_jax.plan.topology import parse
from stableavatar_jax.sharding import make_mesh


def test_products_count_as_often_as_their_loop_turns():
    """A scan of 7 layers: 2 n^3 operations a layer, each layer's weights read once, not the whole stack."""
    size, layers = 256, 7
    weights, x = jnp.zeros((layers, size, size)), jnp.zeros((size, size))
    run = jax.jit(lambda weights, x: jax.lax.scan(lambda x, w: (jnp.sin(x @ w), None), x, weights)[0])
    found = cost(Program(run.lower(weights, x).compile().as_text(), {"data": 1}), PLANNED["cpu"])
    assert found.flops == 2 * size**3 * layers
    one = 4 * size**2
    assert 3 * one * layers <= found.moved <= 12 * one * layers


TPU = """
%joined (p.0: bf16[64,32], p.1: bf16[32,16]) -> bf16[64,16] {
  %p.0 = bf16[64,32]{1,0:T(8,128)(2,1)} parameter(0)
  %p.1 = bf16[32,16]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  ROOT %convolution.1 = bf16[64,16]{1,0:T(8,128)(2,1)} convolution(%p.0, %p.1), dim_labels=bf_io->bf
}

%body (state: (s32[], bf16[64,32], bf16[16,16])) -> (s32[], bf16[64,32], bf16[16,16]) {
  %state = (s32[], bf16[64,32], bf16[16,16]) parameter(0)
  %x = bf16[64,32]{1,0} get-tuple-element(%state), index=1
  %w = bf16[16,16]{1,0} get-tuple-element(%state), index=2
  %gathered = bf16[32,16]{1,0:T(8,128)(2,1)S(1)} all-gather(%w), replica_groups=[2,2]<=[4], dimensions={0}
  %y = bf16[64,16]{1,0} fusion(%x, %gathered), kind=kOutput, calls=%joined
  %sums = bf16[64,16]{1,0} all-reduce(%y), replica_groups={{0,2},{1,3}}, to_apply=%add
  ROOT %next = (s32[], bf16[64,32], bf16[16,16]) tuple(%state, %x, %w)
}

%condition (state.1: (s32[], bf16[64,32], bf16[16,16])) -> pred[] {
  %state.1 = (s32[], bf16[64,32], bf16[16,16]) parameter(0)
  %i = s32[] get-tuple-element(%state.1), index=0
  %n = s32[]{:T(128)} constant(7)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (start: (s32[], bf16[64,32], bf16[16,16])) -> (s32[], bf16[64,32], bf16[16,16]) {
  %start = (s32[], bf16[64,32], bf16[16,16]) parameter(0)
  ROOT %loop = (s32[], bf16[64,32], bf16[16,16]) while(%start), condition=%condition, body=%body
}
"""


def test_a_program_of_a_tpu():
    """Its products are convolutions, and what lies in its own cache, `S(1)`, is not read from memory."""
    found = cost(Program(TPU, {"data": 2, "fsdp": 2}), PLANNED["v5p"])
    assert found.flops == 7 * 2 * 64 * 32 * 16
    assert found.sent == {("all-gather", "fsdp"): 7 * 2.0 * 32 * 16, ("all-reduce", "data"): 7 * 2.0 * 64 * 16}
    assert found.moved == 7 * 2 * (64 * 32 + 64 * 16)


BESIDE = """
%begin (p.0: bf16[16,16]) -> (bf16[16,16], bf16[32,16], s32[2]) {
  %p.0 = bf16[16,16]{1,0} parameter(0)
  %gathered.0 = bf16[32,16]{1,0} all-gather(%p.0), replica_groups=[2,2]<=[4], dimensions={0}
  ROOT %begun = (bf16[16,16], bf16[32,16], s32[2]) custom-call(%p.0, %gathered.0), custom_call_target="Begin"
}

%carry (p.1: bf16[64,32], p.2: bf16[32,16], p.3: bf16[16,16], p.4: s32[2]) -> bf16[64,16] {
  %p.1 = bf16[64,32]{1,0} parameter(0)
  %p.2 = bf16[32,16]{1,0} parameter(1)
  %p.3 = bf16[16,16]{1,0} parameter(2)
  %gathered.1 = bf16[32,16]{1,0} all-gather(%p.3), replica_groups=[2,2]<=[4], dimensions={0}
  ROOT %convolution.1 = bf16[64,16]{1,0} convolution(%p.1, %p.2), dim_labels=bf_io->bf
}

%end (p.5: bf16[16,16], p.6: s32[2]) -> bf16[32,16] {
  %p.5 = bf16[16,16]{1,0} parameter(0)
  ROOT %gathered.2 = bf16[32,16]{1,0} all-gather(%p.5), replica_groups=[2,2]<=[4], dimensions={0}
}

ENTRY %main (x: bf16[64,32], v: bf16[32,16], w: bf16[16,16]) -> bf16[32,16] {
  %x = bf16[64,32]{1,0} parameter(0)
  %v = bf16[32,16]{1,0} parameter(1)
  %w = bf16[16,16]{1,0} parameter(2)
  %async-collective-start.1 = (bf16[16,16]{1,0}, bf16[32,16]{1,0}, s32[2]{0:S(4)}) fusion(%w), calls=%begin
  %piece = bf16[16,16]{1,0} get-tuple-element(%async-collective-start.1), index=0
  %counter = s32[2]{0:S(4)} get-tuple-element(%async-collective-start.1), index=2
  %y = bf16[64,16]{1,0} fusion(%x, %v, %piece, %counter), kind=kOutput, calls=%carry
  ROOT %async-collective-done.1 = bf16[32,16]{1,0} fusion(%piece, %counter), kind=kCustom, calls=%end
}
"""


def test_a_collective_that_products_carry_on_is_counted_once():
    """A TPU's fusions begin it, carry it on beside a product, and end it; all three hold it."""
    found = cost(Program(BESIDE, {"data": 2, "fsdp": 2}), PLANNED["v5e"])
    assert found.sent == {("all-gather", "fsdp"): 2.0 * 32 * 16} and found.flops == 2 * 64 * 32 * 16
    assert found.waiting == 0 and found.hidden > 0


@pytest.mark.parametrize(("rows", "name", "products"), [("", "mha_fwd", 2), ("3,", "mha_dkv", 5)])
def test_attention_kernels(rows, name, products):
    """XLA leaves out the axis of a single row."""
    sizes = {"q": 256, "k": 512, "v": 512}
    lines = [f"  %{x} = bf16[{rows}12,{n},128]{{}} parameter({i})" for i, (x, n) in enumerate(sizes.items())]
    call = f'  ROOT %{name} = bf16[{rows}12,256,128] custom-call(%q, %k, %v), custom_call_target="tpu_custom_call"'
    text = "\n".join(["ENTRY %main (q: bf16[]) -> bf16[] {", *lines, call, "}"])
    found = cost(Program(text, {"data": 1}), PLANNED["v5p"])
    assert found.flops == 2 * products * (3 if rows else 1) * 12 * 256 * 512 * 128
    assert found.kernels == found.computing == found.flops / (459e12 * 0.89)


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("replica_groups={{0,2},{1,3}}", [0, 2]),
        ("replica_groups=[2,2]<=[4]", [0, 1]),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", [0, 2]),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=2] {'axis_0'}", [0, 2]),
        ("replica_groups=mesh['a'=2,'b'=1,'c'=2], device_ids=([2,2]T(1,0)) {'a'}", [0, 1]),
        ("source_target_pairs={{0,2},{2,0}}", [0, 2]),
        ("replica_groups={}", [0, 1, 2, 3]),
    ],
)
def test_who_takes_part_in_a_collective(text, group):
    assert _first_group(text, 4) == group


def test_topologies():
    both = parse("v5p:4x4x8*2")
    assert (both.chips, both.slices, both.chip.name, both.tpu) == (256, 2, "v5p", True)
    assert parse("h100:8").chips == 8
    for wrong, words in (("v9:2x2", "unknown; there are v4"), ("v5p:4x4", "v5p:2x2x1"), ("h100:two", "h100:8")):
        with pytest.raises(Mistake, match=words):
            parse(wrong)


class Refused:
    """A program that a compiler has no memory for."""

    def compile(self):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory. Used 20.50G of 15.75G hbm.")


def test_a_compiler_has_the_last_word_on_what_fits():
    mesh, chips = make_mesh(MeshConfig(), jax.devices()[:1]), parse("v5e:1x1")
    made = jax.jit(jnp.sin).lower(jnp.ones(8))
    much = {"weights": 2 * chips.chip.memory}
    accepted, refused = (finish(program, "", chips, mesh, much, 0.0) for program in (made, Refused()))
    assert accepted.fits and ": fits, by the compiler's word" in accepted.table()
    assert not refused.fits and "DOES NOT FIT, by the compiler's word" in refused.table()
    refused = finish(Refused(), "", chips, mesh, {"weights": 1e9}, 0.0)
    assert sum(refused.memory.values()) == 20.5 * 2**30


MEASURED = {("h200:1", "full"): (2.50, 14.8), ("h100:1", "attention"): (2.22, 16.8)}
"""Seconds of a step, and GiB of temporaries, of one row (docs/pods.md)."""


@pytest.mark.parametrize(("chip", "remat"), MEASURED)
def test_the_estimate_is_near_what_was_measured(chip, remat, tmp_path):
    output = tmp_path / "plan.json"
    assert plan.main(["train", "--topology", chip, "--batch", "1", "--remat", remat, "--json", str(output)]) == 0
    told = json.loads(output.read_text())
    seconds, gib = MEASURED[chip, remat]
    assert told["seconds"]["step"] == pytest.approx(seconds, rel=0.25)
    assert told["memory"]["temporaries"] / 2**30 == pytest.approx(gib, rel=0.25)
    state = sum(size for kind, size in told["memory"].items() if kind not in ("temporaries", "batch"))
    assert state / 2**30 == pytest.approx(25.7, rel=0.01)
    assert told["fits"] and told["mfu"] == pytest.approx(856e12 / seconds / 989e12, rel=0.25)


def test_the_estimate_of_sampling(tmp_path):
    """A window of three branches: 1.56 s on an H200."""
    output = tmp_path / "plan.json"
    assert plan.main(["sample", "--topology", "h200:1", "--json", str(output)]) == 0
    told = json.loads(output.read_text())
    assert told["seconds"]["step"] == pytest.approx(1.558, rel=0.25)
    assert told["model_flops"] == pytest.approx(3 * 285e12, rel=0.02)


def test_formulae_know_no_teacher(capsys):
    assert plan.main(["train", "--config", "distil_1b", "--topology", "h100:1"]) == 1
    assert "the formulae know no teacher" in capsys.readouterr().err


def test_a_tpu_needs_its_compiler(monkeypatch, capsys):
    monkeypatch.setattr(topology, "find_spec", lambda name: None)
    assert plan.main(["train", "--topology", "v5p:2x2x1"]) == 1
    assert "the compiler for a TPU is not installed" in capsys.readouterr().err
