"""The VAE's names: what is exported can be imported, and is what was there."""

import flax.linen as nn
import jax
import numpy as np

from stableavatar_jax.models.config import VAEConfig
from stableavatar_jax.models.vae import VAE
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names.vae import NAMINGS


def test_import_undoes_export():
    config = VAEConfig(dim=2, z_dim=3, num_res_blocks=1)
    model = VAE(config)
    abstract = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *model.example()))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), abstract)
    file = dict(rules.export(NAMINGS[0], config, params))
    assert file["encoder.middle.1.norm.gamma"].shape == (8, 1, 1)
    assert file["decoder.upsamples.2.time_conv.weight"].shape == (16, 8, 3, 1, 1)
    again, _ = rules.load(NAMINGS[0], config, file, abstract)
    jax.tree.map(np.testing.assert_array_equal, again, params)
