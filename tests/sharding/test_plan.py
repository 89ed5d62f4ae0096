"""Plans of steps: a compiled program is counted rightly, and estimates are near what was measured."""

import json

import jax
import jax.numpy as jnp
import pytest

from stableavatar_jax.errors import Mistake
from stableavatar_jax.plan import __main__ as plan
from stableavatar_jax.plan import topology
from stableavatar_jax.plan.chips import CHIPS
from stableavatar_jax.plan.program import Program, _first_group
from stableavatar_jax.plan.roofline import cost
from stableavatar_jax.plan.topology import parse


def test_products_count_as_often_as_their_loop_turns():
    """A scan of 7 layers: 2 n^3 operations a layer, each layer's weights read once, not the whole stack."""
    size, layers = 256, 7
    weights, x = jnp.zeros((layers, size, size)), jnp.zeros((size, size))
    run = jax.jit(lambda weights, x: jax.lax.scan(lambda x, w: (jnp.sin(x @ w), None), x, weights)[0])
    found = cost(Program(run.lower(weights, x).compile().as_text(), {"data": 1}), CHIPS["cpu"])
    assert found.flops == 2 * size**3 * layers
    one = 4 * size**2
    assert 3 * one * layers <= found.moved <= 12 * one * layers


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


MEASURED = {"full": (2.50, 14.8), "names": (2.48, 42.4)}
"""Seconds of a step, and GiB of temporaries, of one row on one H200 (docs/pods.md)."""


@pytest.mark.parametrize("remat", MEASURED)
def test_the_estimate_is_near_what_was_measured(remat, tmp_path):
    output = tmp_path / "plan.json"
    assert plan.main(["train", "--topology", "h200:1", "--batch", "1", "--remat", remat, "--json", str(output)]) == 0
    told = json.loads(output.read_text())
    seconds, gib = MEASURED[remat]
    assert told["seconds"]["step"] == pytest.approx(seconds, rel=0.25)
    assert told["memory"]["temporaries"] / 2**30 == pytest.approx(gib, rel=0.25)
    state = sum(size for kind, size in told["memory"].items() if kind not in ("temporaries", "batch"))
    assert state / 2**30 == pytest.approx(25.7, rel=0.01)
    assert told["fits"] and told["mfu"] == pytest.approx(0.35, rel=0.25)


def test_a_tpu_needs_its_compiler(monkeypatch, capsys):
    monkeypatch.setattr(topology, "find_spec", lambda name: None)
    assert plan.main(["train", "--topology", "v5p:2x2x1"]) == 1
    assert "the compiler for a TPU is not installed" in capsys.readouterr().err
