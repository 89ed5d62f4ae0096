"""The two sizes of the model, as sampling and training share them. It needs nothing but jax and flax."""

from stableavatar_jax.models.audio_adapter import AudioAdapterConfig
from stableavatar_jax.models.avatar import AvatarConfig
from stableavatar_jax.models.dit import DiTConfig

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
