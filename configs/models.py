"""The sizes of the model, as sampling and training share them."""

from stableavatar_jax.demo.preset import model as demo
from stableavatar_jax.models.config import AudioAdapterConfig, AvatarConfig, DiTConfig

__all__ = ["avatar_14b", "avatar_1b", "demo"]

avatar_1b = AvatarConfig()
avatar_14b = AvatarConfig(
    dit=DiTConfig(
        dim=5120,
        ffn_dim=13824,
        heads=40,
        layers=40,
        adapter=AudioAdapterConfig(dim=5120, projection_dims=(2048,)),
        mask_padding=True,
    )
)
