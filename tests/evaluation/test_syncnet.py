"""SyncNet's input and its place in the command; tests/parity compares the network with PyTorch."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation.syncnet import LIPS, SOUND, load_syncnet, mfcc, syncnet

KERNELS = {
    "netcnnaud": (SOUND, [(64, 1, 3, 3), (192, 64, 3, 3), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3),
                          (512, 256, 5, 4)]),
    "netcnnlip": (LIPS, [(96, 3, 5, 7, 7), (256, 96, 1, 5, 5), (256, 256, 1, 3, 3), (256, 256, 1, 3, 3),
                         (256, 256, 1, 3, 3), (512, 256, 1, 6, 6)]),
}  # fmt: skip
CEPSTRA = {
    0: (18.8108, 16.4569, 10.9177, 20.7906, -17.0403, -6.3844, 5.9974, -41.8961, -20.3031, -5.4962, -46.1723, -15.1552,
        -1.3282),
    20: (19.7825, 10.4492, -6.8143, -18.4038, -48.2098, -26.4731, 1.3722, -9.3926, 27.2834, 33.51, -10.91, 1.4624,
         -5.144),
    48: (19.6586, 8.7013, -24.1124, -19.0761, -14.6943, 26.1013, 35.9818, -27.6171, -23.1387, 3.8298, -5.4929, 22.6099,
         11.8224),
}  # fmt: skip
"""What python_speech_features 0.6 makes of the sound below, by moment."""


def drawn():
    """Weights of SyncNet's shapes."""
    rng, found = np.random.default_rng(0), {}

    def norm(name, width):
        found.update({f"{name}.{each}": np.ones(width, np.float32) for each in ("weight", "running_var")})
        found.update({f"{name}.{each}": np.zeros(width, np.float32) for each in ("bias", "running_mean")})

    for part, (layers, shapes) in KERNELS.items():
        for (number, *_), shape in zip(layers, shapes, strict=True):
            spread = np.prod(shape[1:]) ** -0.5
            found[f"{part}.{number}.weight"] = (spread * rng.standard_normal(shape)).astype(np.float32)
            found[f"{part}.{number}.bias"] = np.zeros(shape[0], np.float32)
            norm(f"{part}.{number + 1}", shape[0])
        end = part.replace("cnn", "fc")
        for number, width in ((0, 512), (3, 1024)):
            found[f"{end}.{number}.weight"] = (rng.standard_normal((width, 512)) / 20).astype(np.float32)
            found[f"{end}.{number}.bias"] = np.zeros(width, np.float32)
        norm(f"{end}.1", 512)
    return found


def test_cepstra_are_those_of_python_speech_features():
    t = np.arange(8000) / 16000
    tone = 32767 * 0.4 * np.sin(2 * np.pi * (200 + 900 * t) * t) * np.exp(-2 * t)
    found = mfcc(np.rint(tone + 300 * np.cos(2 * np.pi * 3100 * t)))
    assert found.shape == (49, 13)
    for moment, row in CEPSTRA.items():
        np.testing.assert_allclose(found[moment], row, atol=6e-5)


def test_scores_of_a_video(tmp_path):
    save_file(drawn(), tmp_path / "syncnet.safetensors")
    weights = load_syncnet(tmp_path / "syncnet.safetensors")
    faces = np.random.default_rng(1).integers(0, 256, (7, 224, 224, 3), np.uint8)
    samples = np.random.default_rng(2).uniform(-0.3, 0.3, 16000).astype(np.float32)
    found = syncnet(weights, faces, samples)
    assert np.isfinite(found.d) and found.d > 0 and found.c >= 0
    with pytest.raises(Mistake, match="too few for SyncNet"):
        syncnet(weights, faces[:5], samples)


def test_other_weights_are_refused(tmp_path):
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(Mistake, match="not SyncNet's weights"):
        load_syncnet(tmp_path / "other.safetensors")
