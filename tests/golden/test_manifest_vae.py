"""The real VAE's parameters are those of Wan2.1_VAE.pth, name for name and shape for shape."""

import flax.linen as nn
import jax
import numpy as np

from convert import rules
from convert.vae import NAMINGS
from stableavatar_jax.models.vae import VAE, VAEConfig

GROUPS = {"manifests"}


class Tensor:
    """A tensor of the file, known by its shape alone."""

    def __init__(self, shape):
        self.shape = tuple(shape)


def test_manifest(case):
    said = case.info["config"]
    config = VAEConfig(
        dim=said["dim"],
        z_dim=said["z_dim"],
        dim_mult=tuple(said["dim_mult"]),
        num_res_blocks=said["num_res_blocks"],
        temporal_downsample=tuple(said["temperal_downsample"]),
    )
    assert config == VAEConfig()
    model = VAE(config)
    abstract = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *model.example()))["params"]
    shapes = {name: tuple(entry["shape"]) for name, entry in case.info["keys"].items()}
    (naming,) = NAMINGS
    blank = lambda shape: np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), shape, (0,) * len(shape))  # noqa: E731
    exported = rules.export(naming, config, jax.tree.map(lambda leaf: blank(leaf.shape), abstract))
    assert {name: value.shape for name, value in exported} == shapes
    assert rules.choose(NAMINGS, config, shapes) is naming
    loaded, report = rules.load(
        naming,
        config,
        {name: blank(shape) for name, shape in shapes.items()},
        abstract,
        empty=lambda path, shape, dtype: np.empty(shape, np.bool_),
    )
    assert jax.tree.map(np.shape, loaded) == jax.tree.map(lambda leaf: leaf.shape, abstract)
    assert report == rules.Report((), ())


test_manifest.cases = "wan21_vae.json"
