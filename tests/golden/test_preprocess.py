"""Pictures in and frames out, against the release's (`preprocess/`)."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.encoding.reference import LatentEncoder, encode_reference
from stableavatar_jax.frames import FRAMES_PER_LATENT, latent_frames
from stableavatar_jax.models.clip_vision import CLIPVision
from stableavatar_jax.models.vae import VAE
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names.clip_vision import NAMINGS as clip_names
from stableavatar_jax.weights.names.vae import NAMINGS as vae_names
from tests.golden import cases, sizes
from tests.params import abstract_params

GROUPS = {"preprocess"}


def test_postprocess(case):
    frames = case.tensors["in/frames"][0].transpose(1, 2, 3, 0)  # [1, 3, T, H, W] -> [T, H, W, 3]
    case.check("out/uint8", media.postprocess(frames), atol=0)
    # out/video01, the same in [0, 1], is never held: out/uint8 is its truncation


test_postprocess.cases = "postprocess_*.json"


def test_reference(case):
    """Stretched to the frame, as the release does, from the picture as Pillow's `convert` gives it: transparency is
    dropped, and nothing is put on white."""
    config = case.info["config"]
    with Image.open(case.path.with_name(case.info["file"])) as image:
        rgb = image.convert("RGB")
    np.testing.assert_array_equal(np.asarray(rgb), case.tensors["in/image_rgb_u8"])

    picture = media.fit_picture(rgb, config["height"], config["width"], "stretch")
    exact = {"atol": 1e-6, "rtol": 0.0}  # by the case's note; its tolerance is the encoders'
    case.check("out/clip_image", picture.transpose(2, 0, 1), **exact)
    case.check("out/cond_image", picture.transpose(2, 0, 1)[None, :, None], **exact)

    clip = CLIPVision(sizes.clip(config["clip"]))
    tokens = jax.jit(clip.apply)({"params": load(case, "clip", clip_names, clip)}, jnp.asarray(picture)[None])
    case.check("out/clip_context", tokens, atol=7e-4, rtol=0.0)  # by the case's note: the resize in float32

    vae = VAE(sizes.vae(config["vae"]))
    encoder = LatentEncoder(vae, load(case, "vae", vae_names, vae))
    reference = encode_reference(encoder, picture, latent_frames(config["clip_length"]))
    reference = reference.transpose(3, 0, 1, 2)[None]
    case.check("out/y", reference)
    case.check("out/mask", reference[:, :FRAMES_PER_LATENT], **exact)
    case.check("out/masked_video_latents", reference[:, FRAMES_PER_LATENT:])


def load(case, part, names, module):
    source = cases.weights(case.info["weights"][part], case.info["seed"])
    params, _ = rules.load(rules.choose(names, module.config, source), module.config, source, abstract_params(module))
    return params


test_reference.cases = "reference_*.json"
