"""Measures of pictures and of their change over time. Arrays in, numbers out: they know no face, file or model."""

import numpy as np
from scipy import ndimage

from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Bool, Float, Int, UInt8

LUMA = np.array((0.299, 0.587, 0.114), np.float32)
STILL = 0.1
"""Grey levels of 255 by which a frame differs from the one before, on average, where it is shown again. Compression
leaves a copy about 0.03 apart; a head that hardly moves makes 0.3."""
FREEZE = 5
"""Frames in a row that make a freeze; a pause in speech is shorter or has a blink."""
DETAIL = 2
"""Pixels of the Gaussian that takes away the detail of a picture."""
NEAR = 2
"""Latent frames before and after a joint that it is compared with."""


def sharpness(frame: UInt8[np.ndarray, "H W 3"]) -> float:
    """How strong the finest details of a picture are beside those twice as coarse: about 1.2 where edges are sharp, 0.7
    where they are softened over three pixels. Contrast and the number of edges hardly play a part, so a head may move.
    0 for a picture of one colour."""
    light = frame @ LUMA
    soft = _softened(light, 1)
    coarse = float(np.abs(soft - _softened(soft, 2)).mean())
    return float(np.abs(light - soft).mean()) / coarse if coarse else 0.0


def psnr(one: UInt8[np.ndarray, "H W 3"], other: UInt8[np.ndarray, "H W 3"]) -> float:
    """Decibels between two pictures, at most 100."""
    error = float(np.square(one.astype(np.float32) - other).mean())
    return min(100.0, float(10 * np.log10(255**2 / max(error, 1e-10))))


def detail_kept(kept: UInt8[np.ndarray, "T H W 3"], given: UInt8[np.ndarray, "T H W 3"]) -> tuple[float, float]:
    """Share of the detail of light, and of colour, that frames keep of those they were made from: 1 for all of it.

    Detail is what a Gaussian of `DETAIL` pixels takes away, its energy in luminance, and in blue and red less luminance
    together. The share is 1 less the energy of the error, so it is below 0 where there is more error than detail.
    """
    shares = []
    one, other = (_light_and_colour(frames) for frames in (given, kept))
    for part in (slice(0, 1), slice(1, 3)):
        found = [x[..., part] - ndimage.gaussian_filter(x[..., part], (0, DETAIL, DETAIL, 0)) for x in (one, other)]
        shares.append(1 - float(np.square(found[1] - found[0]).sum()) / max(float(np.square(found[0]).sum()), 1e-6))
    return shares[0], shares[1]


def _light_and_colour(frames: UInt8[np.ndarray, "T H W 3"]) -> Float[np.ndarray, "T H W 3"]:
    """Y, Cb and Cr (ITU-R BT.601) without their offsets."""
    light = (frames @ LUMA)[..., None]
    return np.concatenate([light, (frames[..., 2:] - light) / 1.772, (frames[..., :1] - light) / 1.402], -1)


def ssim(one: UInt8[np.ndarray, "H W 3"], other: UInt8[np.ndarray, "H W 3"]) -> float:
    """Structural similarity of two pictures' lightness (Wang et al. 2004: Gaussian window of 11 and sigma 1.5)."""
    if min(one.shape[:2]) < 11:
        raise Mistake(f"pictures of {one.shape[1]}x{one.shape[0]} pixels; SSIM needs 11 or more on a side")
    window = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window /= window.sum()

    def mean(values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H2 W2"]:
        for axis in (0, 1):
            values = ndimage.correlate1d(values, window, axis=axis)
        return values[5:-5, 5:-5]

    a, b = one.astype(np.float64) @ LUMA, other.astype(np.float64) @ LUMA
    m, n = mean(a), mean(b)
    spread_a, spread_b, shared = mean(a * a) - m * m, mean(b * b) - n * n, mean(a * b) - m * n
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    alike = (2 * m * n + c1) * (2 * shared + c2) / ((m * m + n * n + c1) * (spread_a + spread_b + c2))
    return float(alike.mean())


def _softened(light: Float[np.ndarray, "H W"], times: int) -> Float[np.ndarray, "H W"]:
    for axis in (0, 1) * times:
        light = ndimage.correlate1d(light, (0.25, 0.5, 0.25), axis=axis, mode="nearest")
    return light


def frozen(change: Float[np.ndarray, "T"]) -> Bool[np.ndarray, "T"]:
    """Which frames are copies of the one before in a stretch of `FREEZE` or more; `change` is each frame's mean
    difference from the one before, in grey levels (the first has none, NaN)."""
    still = np.nan_to_num(change, nan=np.inf) < STILL
    edges = np.flatnonzero(np.diff(np.concatenate([[False], still, [False]]).astype(int)))
    found = np.zeros_like(still)
    for start, end in edges.reshape(-1, 2):
        found[start:end] = end - start >= FREEZE
    return found


def seam(change: Float[np.ndarray, "T"], joints: Int[np.ndarray, "J"]) -> float:
    """How much more the picture changes where a window begins or ends than around it: 1 where nobody sees the joint.

    `change` is the mean difference of each latent frame's first picture from the picture before; `joints` are latent
    frames. The mean of the change there, over the mean of the `NEAR` on either side that are no joints. NaN without
    joints.
    """
    there, around = [], []
    for joint in joints[(joints > 0) & (joints < len(change))]:
        near = [k for k in range(joint - NEAR, joint + NEAR + 1) if 0 < k < len(change) and k not in joints]
        if near:
            there.append(change[joint])
            around.append(change[near].mean())
    return float(np.mean(there) / max(float(np.mean(around)), 1e-6)) if there else float("nan")


def frechet(one: Float[np.ndarray, "N D"], other: Float[np.ndarray, "M E"]) -> float:
    """The Frechet distance of two sets of features, each taken for a Gaussian (Heusel et al. 2017): of Inception's it
    is FID, of I3D's FVD. Raises Mistake for fewer than two rows, or for rows of two lengths."""
    if min(len(one), len(other)) < 2 or one.shape[1] != other.shape[1]:
        raise Mistake(f"features of shape {one.shape} and {other.shape}; two rows or more of one length are needed")
    a, b = (np.atleast_2d(np.cov(x.astype(np.float64), rowvar=False)) for x in (one, other))
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    both = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()  # the trace of the root of a times b
    apart = np.square(one.mean(0, dtype=np.float64) - other.mean(0, dtype=np.float64)).sum()
    return float(apart + np.trace(a) + np.trace(b) - 2 * both)
