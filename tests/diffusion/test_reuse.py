"""Which parts of an evaluation each step needs."""

import numpy as np
import pytest

from stableavatar_jax.diffusion.reuse import guided_steps, skipped_steps

LIMITS = {"threshold": 0.12, "most": 2, "first": 0.2}


def test_guided_steps():
    assert guided_steps(16, 0.0, 0.5) == (True,) * 8 + (False,) * 8
    assert guided_steps(5, 0.3, 0.7) == (False, False, True, True, False)  # 1.5 and 3.5 are rounded up
    assert guided_steps(4, 0.0, 1.0) == (True,) * 4
    assert guided_steps(4, 0.5, 0.5) == (False,) * 4


def test_skipped_steps_by_hand():
    """Ten steps from the third on. Products 0.95, 0.9025 and errors 0.05, 0.1475: one step is left out, then one runs.

    Ratios of 0.99 have errors of 0.01, 0.0299, 0.0596, ...: two are left out, and the third runs as K is 2.
    """
    steep, flat = [0.95] * 10, [0.99] * 10
    told = {"guided": (True,) * 10, "main": 0, **LIMITS}
    assert np.flatnonzero(skipped_steps([steep], **told)).tolist() == [2, 4, 6, 8]
    assert np.flatnonzero(skipped_steps([flat], **told)).tolist() == [2, 3, 5, 6, 8, 9]
    assert skipped_steps([flat, steep], **told) == skipped_steps([steep], **told)  # one branch alone makes all run
    more = skipped_steps([flat], **told | {"most": 9})
    assert np.flatnonzero(more).tolist() == [2, 3, 4, 5, 7, 8, 9]  # 0.099 at the fourth is below, 0.148 is not


def test_with_every_ratio_1_all_that_is_allowed_is_left_out():
    """50 steps from the tenth on in rows of K: of 40 steps 27 with K 2, 32 with K 4."""
    told = {"guided": (True,) * 50, "main": 0, **LIMITS}
    assert sum(skipped_steps([[1.0] * 50], **told)) == 27
    assert sum(skipped_steps([[1.0] * 50], **told | {"most": 4})) == 32
    for nothing in ({"most": 0}, {"threshold": 0.0}, {"first": 1.0}):
        assert not any(skipped_steps([[1.0] * 50], **told | nothing))


@pytest.mark.parametrize("first", [0.0, 0.2])
def test_a_branch_that_has_not_run_is_run(first):
    """Guidance begins at step 5: what the other branches add is not known before."""
    guided = guided_steps(12, 0.4, 0.8)
    skipped = skipped_steps([[1.0] * 12] * 3, guided, 1, threshold=0.12, most=4, first=first)
    assert guided[5] and not skipped[5] and skipped[6] and not skipped[0]
    # From step 10 on the main branch goes on alone, with what it has.
    alone = skipped_steps([[2.0] * 12, [1.0] * 12], guided, 1, threshold=0.12, most=4, first=first)
    assert not any(alone[5:10]) and all(alone[10:])
