"""Whether lips and sound belong together: SyncNet's two scores, from features of any network that has both."""

from typing import NamedTuple

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Float

REACH = 15
"""Frames either way in which SyncNet looks for the sound of a mouth."""


class SyncScores(NamedTuple):
    """SyncNet's verdict on a video (Chung and Zisserman, 2016)."""

    c: float
    """Sync-C, the confidence: the median over all offsets of the mean distance, minus the least. Higher is better."""
    d: float
    """Sync-D: the least mean distance over all offsets. Lower is better."""
    offset: int
    """Frames by which the sound comes after the lips at that least."""


def sync_scores(
    lips: Float[np.ndarray, "T D"], sound: Float[np.ndarray, "S E"], reach: int = REACH
) -> SyncScores:
    """The scores of features of mouth and sound, a row for each frame; no more than `reach` frames are looked aside.

    As released, the sound is zeros before its beginning and after its end. Raises Mistake for features of two lengths.
    """
    if lips.shape != sound.shape or not len(lips):
        raise Mistake(f"features of lips {lips.shape} and of sound {sound.shape}; both need the same shape, not empty")
    padded = np.pad(sound, ((reach, reach), (0, 0)))
    offsets = range(2 * reach + 1)
    # 1e-6 is added to the differences by PyTorch's pairwise_distance, with which the published scores were made.
    means = np.array([np.linalg.norm(lips - padded[k : k + len(lips)] + 1e-6, axis=1).mean() for k in offsets])
    return SyncScores(float(np.median(means) - means.min()), float(means.min()), int(means.argmin()) - reach)
