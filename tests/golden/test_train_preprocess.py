"""What the release's training script makes of a window before the encoders (`preprocess/train_*`)."""

import jax.numpy as jnp
import numpy as np
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.diffusion import masks

GROUPS = {"preprocess"}


def test_masks(case):
    size = tuple(case.info["config"]["latent_shape"][2:])
    for suffix in ("", "_random"):
        hidden = jnp.asarray(case.tensors[f"in/pixel_value_masks{suffix}"][:, :, 0], jnp.float32)
        given = masks.given_mask(hidden, size[1:])
        case.check(f"out/latent_mask{suffix}", given.transpose(0, 4, 1, 2, 3))
    for part in ("face", "lip"):
        mask = jnp.asarray(case.tensors[f"in/tgt_{part}_masks"][:, 0], jnp.float32)
        case.check(f"out/{part}_latent", masks.latent_masks(mask, size)[:, None])


test_masks.cases = "train_masks*.json"


def test_clip_image(case):
    """CLIP sees the reference picture itself; what truncation in float32 would lose (`fp32_path`) is a fault."""
    source = case.tensors["in/source_u8"]
    picture = media.fit_picture(Image.fromarray(source), *source.shape[:2], "stretch")
    case.check("out/u8_bf16_path", np.rint((picture + 1) / 2 * 255), atol=0)
    case.check("out/clip_image_bf16_path", picture.transpose(2, 0, 1))


test_clip_image.cases = "train_clip_image*.json"
