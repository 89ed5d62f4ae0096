"""Windows of sound through the audio encoder: a fixed number at a time, by one compiled program."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from stableavatar_jax.configs import tiny
from stableavatar_jax.encoding import encoders
from stableavatar_jax.models.wav2vec2 import Wav2Vec2
from stableavatar_jax.sharding import initialise

TRACES = []


class Counted(Wav2Vec2):
    """The audio encoder, which tells when it is traced."""

    @nn.compact
    def __call__(self, samples, masked=None):
        TRACES.append(samples.shape)
        return super().__call__(samples, masked)


@pytest.fixture(scope="module")
def network():
    module = Counted(tiny.config.model.wav2vec2)
    return module, initialise(module, jax.random.key(0))


def test_windows_are_encoded_as_if_alone_by_one_program(network, monkeypatch):
    sounds = list(np.random.default_rng(0).standard_normal((5, 3200), np.float32))
    module, params = network
    alone = jax.jit(module.apply)
    expected = np.concatenate([alone({"params": params}, sound[None]) for sound in sounds])
    monkeypatch.setattr(encoders, "SOUNDS_AT_ONCE", {"cpu": 2})
    encode = encoders.SoundEncoder(*network)
    TRACES.clear()
    made = np.stack(list(encode(iter(sounds))))
    np.testing.assert_allclose(made, expected, atol=1e-5)
    np.testing.assert_array_equal(np.stack(list(encode(sounds[4:]))), made[4:])
    assert TRACES == [(2, 3200)]
