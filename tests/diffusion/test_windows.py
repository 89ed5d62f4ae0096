"""Plans of windows, and the fusion of their velocities."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from stableavatar_jax.diffusion.fusion import fuse, fusion_weights
from stableavatar_jax.diffusion.windows import WindowPlan
from stableavatar_jax.frames import latent_frames

SHAPE = (2, 3, 4)


@pytest.mark.parametrize("kind", ["logarithmic", "linear", "fixed"])
@pytest.mark.parametrize("overlap", [2, 5, 20])
def test_fusion_weights(kind, overlap):
    weights = np.asarray(fusion_weights(overlap, kind))
    assert (weights[0], weights[-1]) == ((0.5, 0.5) if kind == "fixed" else (0, 1))
    assert (np.diff(weights) >= 0).all()


def test_fusion_keeps_what_windows_agree_on():
    weights = fusion_weights(5)
    tail, velocity = jax.numpy.full((5, *SHAPE), 3.0), jax.numpy.full((7, *SHAPE), 3.0)
    for part in fuse(tail, velocity, weights):
        assert_allclose(part, 3, rtol=1e-6)


@pytest.mark.parametrize("overlap", [0, 2, 5, 10, 15, 20])
def test_plan_covers_every_frame_with_whole_windows(overlap):
    for frames in (1, 2, 20, 21, 22, 37, 38, 376):
        plan = WindowPlan(frames, 21, overlap)
        assert plan.padded - plan.stride < max(frames, 21 - plan.stride + 1) <= max(plan.padded, frames) == plan.padded
        assert plan.starts[-1] + plan.window == plan.padded and len(plan.starts) == plan.count
        assert plan.video_starts[-1] == 4 * plan.starts[-1]


@pytest.mark.parametrize("frames, window, overlap", [(0, 21, 5), (5, 21, 1), (5, 21, 21), (5, 21, -1), (5, 0, 0)])
def test_impossible_plans_are_refused(frames, window, overlap):
    with pytest.raises(ValueError, match="impossible|at least 1"):
        WindowPlan(frames, window, overlap)


def test_latent_frames():
    assert [latent_frames(n) for n in (1, 2, 5, 6, 81, 82)] == [1, 2, 2, 3, 21, 22]
