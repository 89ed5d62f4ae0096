"""Pictures in and frames out, against the release's (`preprocess/`)."""

import numpy as np
from PIL import Image

from stableavatar_jax import media

GROUPS = {"preprocess"}


def test_postprocess(case):
    frames = case.tensors["in/frames"][0].transpose(1, 2, 3, 0)  # [1, 3, T, H, W] -> [T, H, W, 3]
    case.check("out/uint8", media.postprocess(frames), atol=0)
    # out/video01, the same in [0, 1], is never held: out/uint8 is its truncation


test_postprocess.cases = "postprocess_*.json"


def test_reference(case):
    """Stretched to the frame, as the release does, from the picture as Pillow's `convert` gives it (SPEC 8)."""
    height, width = case.info["config"]["height"], case.info["config"]["width"]
    with Image.open(case.path.with_name(case.info["file"])) as image:
        rgb = image.convert("RGB")
    np.testing.assert_array_equal(np.asarray(rgb), case.tensors["in/image_rgb_u8"])

    picture = media.fit_picture(rgb, height, width, "stretch")
    exact = {"atol": 1e-6, "rtol": 0.0}  # by the case's note; its tolerance is the encoders'
    case.check("out/clip_image", picture.transpose(2, 0, 1), **exact)
    case.check("out/cond_image", picture.transpose(2, 0, 1)[None, :, None], **exact)


test_reference.cases = "reference_*.json"
