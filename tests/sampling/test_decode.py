"""Decoding in calls of several latent frames equals decoding one after another, and runs one call ahead."""

import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.configs import tiny
from stableavatar_jax.models.avatar import part
from stableavatar_jax.models.compute import Compute
from stableavatar_jax.sampling import decode as module
from stableavatar_jax.sampling.decode import decode
from tests.params import random_params


@pytest.mark.parametrize("blocks", [[6], [1, 2, 3]])
def test_calls_of_several_latent_frames_give_the_same_video(blocks, monkeypatch):
    vae = part(tiny.model, "vae", Compute())
    params, frames = random_params(vae), 19
    z = np.random.default_rng(0).standard_normal((6, 2, 2, tiny.model.vae.z_dim), np.float32)
    one = np.concatenate(list(decode(vae, params, [z], lambda: frames)))
    monkeypatch.setattr(module, "AT_ONCE", {"cpu": 2})
    told = []
    parts = list(decode(vae, params, np.split(z, np.cumsum(blocks)[:-1]), lambda: frames, told.append))
    assert [len(p) for p in parts] == [1, 8, 8, 2] and [event.done for event in told] == [1, 9, 17, 19]
    assert np.abs(np.concatenate(parts).astype(int) - one).max() <= 1


def test_frames_do_not_wait_for_latents_that_are_still_to_come(monkeypatch):
    """Of latents that come by and by, all that can be made of each block is given before the next one is asked for."""
    made = lambda params, z, cache: (jnp.zeros((4 * len(z) - 3 * (cache is None), 2, 2, 3), "uint8"), 0)  # noqa: E731
    monkeypatch.setattr(module, "decoder", lambda *_: made)
    monkeypatch.setattr(module, "AT_ONCE", {"cpu": 2})
    given = []

    def blocks():
        for _ in range(3):
            given.append(0)
            yield np.zeros((11, 1, 1, 1), np.float32)

    vae = part(tiny.model, "vae", Compute())
    for frames in decode(vae, None, blocks(), lambda: None):
        given[-1] += len(frames)
    assert given == [41, 40, 48]  # calls of 1, 2, 2, ... latents: 11, 10 and the last 12 of 33
