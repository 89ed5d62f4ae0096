"""Linear maps that training of the audio encoder reads its features with, and leaves behind."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stableavatar_jax.models.layers import Linear
from stableavatar_jax.shapes import Array, Float


class Heads(nn.Module):
    """Features of sound to what is known of it: log-mel spectrum, mouth and phoneme."""

    dim: int
    """Width D of the features."""
    bands: int
    """Bands of the spectrum."""
    phonemes: int
    """Classes of phonemes."""

    @nn.compact
    def __call__(self, features: Float[Array, "B A D"]) -> dict[str, Float[Array, "B A O"]]:
        """Log-mel spectrum, opening and width, and scores of phonemes, for every feature."""
        sizes = {"mel": self.bands, "mouth": 2, "phoneme": self.phonemes}
        return {name: Linear(size, (None, None), name=name)(features) for name, size in sizes.items()}

    def example(self) -> tuple[jax.ShapeDtypeStruct]:
        """Shape of the input, for `init`."""
        return (jax.ShapeDtypeStruct((1, 1, self.dim), jnp.float32),)
