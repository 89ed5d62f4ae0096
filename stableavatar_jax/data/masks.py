"""Masks at the size of the latents: where the loss looks, and which frames the model is given."""

import numpy as np

from stableavatar_jax.shapes import Float

FRAMES_PER_LATENT = 4


def loss_mask(mask: Float[np.ndarray, "T H W"], size: tuple[int, int, int]) -> Float[np.ndarray, "F h w"]:
    """A face or lip mask at latent size (F, h, w): one trilinear resize over time and space, as released."""
    return resize_linear(mask, size)


def given_mask(hidden: Float[np.ndarray, "T H W"], size: tuple[int, int, int]) -> Float[np.ndarray, "F h w 4"]:
    """The transformer's mask channels: 1 where a pixel is given, from a mask that is 1 where it is to be made.

    The four frames of a latent frame are its channels, the first frame counting four times; the first latent frame is
    resized on its own. With only the first frame given it is 1 on the first latent frame and 0 elsewhere.
    """
    frames, height, width = size
    given = 1 - np.concatenate([np.repeat(hidden[:1], FRAMES_PER_LATENT, 0), hidden[1:]])
    channels = given.reshape(-1, FRAMES_PER_LATENT, *given.shape[1:])
    resized = [
        np.concatenate([resize_linear(c[:1], (1, height, width)), resize_linear(c[1:], (frames - 1, height, width))])
        for c in channels.swapaxes(0, 1)
    ]
    return np.stack(resized, -1)


def resize_linear(x: Float[np.ndarray, "*old"], size: tuple[int, ...]) -> Float[np.ndarray, "*new"]:
    """Linear interpolation along every axis without antialiasing; pixels have extent, ends are repeated (PyTorch's
    `interpolate(..., align_corners=False)`).
    """
    for axis, new in enumerate(size):
        x = np.moveaxis(np.tensordot(linear_weights(x.shape[axis], new), x, (1, axis)), 0, axis)
    return np.ascontiguousarray(x, np.float32)


def linear_weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """How much of each old place each new one takes; at most two are not 0."""
    centre = np.maximum((np.arange(new) + 0.5) * old / new - 0.5, 0)
    low = np.minimum(np.floor(centre).astype(int), old - 1)
    share = np.minimum(centre - low, 1).astype(np.float32)
    weights = np.zeros((new, old), np.float32)
    np.add.at(weights, (np.arange(new), low), 1 - share)
    np.add.at(weights, (np.arange(new), np.minimum(low + 1, old - 1)), share)
    return weights
