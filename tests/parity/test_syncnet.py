"""SyncNet against the same layers in PyTorch, with drawn weights and statistics."""

from collections import OrderedDict

import numpy as np
import pytest
from safetensors.numpy import save_file

from stableavatar_jax.evaluation.syncnet import LIPS, SOUND, lip_features, load_syncnet, sound_features

torch = pytest.importorskip("torch", reason="torch is only in the environment of `make parity`")

KERNELS = {
    "netcnnaud": [(64, 1, 3, 3), (192, 64, 3, 3), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3),
                  (512, 256, 5, 4)],
    "netcnnlip": [(96, 3, 5, 7, 7), (256, 96, 1, 5, 5), (256, 256, 1, 3, 3), (256, 256, 1, 3, 3), (256, 256, 1, 3, 3),
                  (512, 256, 1, 6, 6)],
}  # fmt: skip
"""Shapes of the release's convolutions, which lie between norms, rectifiers and pools."""


def network(part, layers):
    """One half of SyncNet in PyTorch, put together from the release's shapes, strides and pools."""
    flat = part == "netcnnaud"
    conv, norm, pool = (
        (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.MaxPool2d) if flat
        else (torch.nn.Conv3d, torch.nn.BatchNorm3d, torch.nn.MaxPool3d)
    )  # fmt: skip
    found = {}
    for (number, stride, padding, pooled), shape in zip(layers, KERNELS[part], strict=True):
        found[str(number)] = conv(shape[1], shape[0], shape[2:], stride, padding)
        found[str(number + 1)] = norm(shape[0])
        found[str(number + 2)] = torch.nn.ReLU()
        if pooled:
            found[str(number + 3)] = pool(*pooled)
    return torch.nn.Sequential(OrderedDict(found))


def test_both_halves(tmp_path):
    torch.manual_seed(0)
    halves, weights = {}, {}
    for cnn, fc, layers in (("netcnnaud", "netfcaud", SOUND), ("netcnnlip", "netfclip", LIPS)):
        end = [torch.nn.Linear(512, 512), torch.nn.BatchNorm1d(512), torch.nn.ReLU(), torch.nn.Linear(512, 1024)]
        halves[cnn] = torch.nn.Sequential(network(cnn, layers), torch.nn.Flatten(), torch.nn.Sequential(*end)).eval()
        for module in halves[cnn].modules():
            if hasattr(module, "running_var"):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        for name, value in halves[cnn].state_dict().items():
            weights[name.replace("0.", f"{cnn}.", 1) if name.startswith("0.") else name.replace("2.", f"{fc}.", 1)] = (
                value.numpy()
            )
    save_file(weights, tmp_path / "syncnet.safetensors")
    ours = load_syncnet(tmp_path / "syncnet.safetensors")
    rng = np.random.default_rng(0)
    frames = rng.uniform(0, 255, (1, 3, 5, 224, 224)).astype(np.float32)
    cepstra = rng.normal(0, 10, (3, 1, 13, 20)).astype(np.float32)
    for function, given, half in ((lip_features, frames, "netcnnlip"), (sound_features, cepstra, "netcnnaud")):
        with torch.no_grad():
            theirs = halves[half](torch.from_numpy(given)).numpy()
        found, scale = np.asarray(function(ours, given)), np.abs(theirs).max()
        np.testing.assert_allclose(found, theirs, rtol=1e-3, atol=1e-3 * scale)
