"""SyncNet (Chung and Zisserman 2016): features of a mouth and of a sound that lie near each other where they agree.

The network and its input are those of the released `syncnet_v2.model`; whoever has it names its path. Faces are cut out
around MediaPipe's landmarks, where the release uses another detector, so compare scores made here with each other and
not with those in papers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from scipy import fft, signal

from stableavatar_jax import media
from stableavatar_jax.data.clips.faces import FaceFinder
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation.readings import Frame
from stableavatar_jax.evaluation.sync import SyncScores, sync_scores
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.shapes import Array, Float, UInt8
from stableavatar_jax.weights.formats.files import open_tensors

FPS = 25
SIDE, CROP = 224, 0.4
"""Pixels of a face's side, and the share of the face's size by which the cut is larger on each side."""
SPAN, PER_FRAME = 5, 4
"""Frames that the network sees at once, and sound features for each of them."""
BATCH = 16
EPS = 1e-5

# Name of the layer, strides, padding, and the pooling after it (window, strides, padding); a batch norm comes next.
Layer = tuple[int, tuple[int, ...], tuple[int, ...], tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None]
SOUND: tuple[Layer, ...] = (
    (0, (1, 1), (1, 1), None),
    (4, (1, 1), (1, 1), ((3, 3), (1, 2), (0, 0))),
    (8, (1, 1), (1, 1), None),
    (11, (1, 1), (1, 1), None),
    (14, (1, 1), (1, 1), ((3, 3), (2, 2), (0, 0))),
    (18, (1, 1), (0, 0), None),
)
LIPS: tuple[Layer, ...] = (
    (0, (1, 2, 2), (0, 0, 0), ((1, 3, 3), (1, 2, 2), (0, 0, 0))),
    (4, (1, 2, 2), (0, 1, 1), ((1, 3, 3), (1, 2, 2), (0, 1, 1))),
    (8, (1, 1, 1), (0, 1, 1), None),
    (11, (1, 1, 1), (0, 1, 1), None),
    (14, (1, 1, 1), (0, 1, 1), ((1, 3, 3), (1, 2, 2), (0, 0, 0))),
    (18, (1, 1, 1), (0, 0, 0), None),
)
Weights = Mapping[str, Any]
"""Arrays by the names of the release."""


def load_syncnet(path: Path) -> dict[str, Float[np.ndarray, "..."]]:
    """Its weights, by the names of the release. Raises Mistake for another file."""
    found = {name: np.asarray(tensor.read(), np.float32) for name, tensor in open_tensors(path).items()
             if not name.endswith("num_batches_tracked")}  # fmt: skip
    wanted = {"netcnnlip.0.weight": (96, 3, 5, 7, 7), "netcnnaud.0.weight": (64, 1, 3, 3),
              "netfclip.3.weight": (1024, 512), "netfcaud.3.weight": (1024, 512)}  # fmt: skip
    for name, shape in wanted.items():
        if name not in found or found[name].shape != shape:
            raise Mistake(f"{path}: not SyncNet's weights, it has no {name} of {shape}; see docs/evidence.md")
    return found


def convolved(x: Array, weights: Weights, part: str, layers: tuple[Layer, ...]) -> Array:
    """Convolutions with batch norms, rectified and pooled; `x` [N, C, ...]."""
    for number, strides, padding, pool in layers:
        kernel = jnp.asarray(weights[f"{part}.{number}.weight"])
        x = jax.lax.conv_general_dilated(x, kernel, strides, [(p, p) for p in padding])
        x = x + _column(weights[f"{part}.{number}.bias"], x.ndim)
        x = jax.nn.relu(_normed(x, weights, f"{part}.{number + 1}"))
        if pool:
            window, steps, around = pool
            x = jax.lax.reduce_window(
                x, -jnp.inf, jax.lax.max, (1, 1, *window), (1, 1, *steps), [(0, 0), (0, 0), *((p, p) for p in around)]
            )
    return x


def embedded(x: Array, weights: Weights, part: str) -> Float[Array, "N 1024"]:
    """Two layers at the end of either half."""
    x = x.reshape(len(x), -1) @ weights[f"{part}.0.weight"].T + weights[f"{part}.0.bias"]
    x = jax.nn.relu(_normed(x, weights, f"{part}.1"))
    return x @ weights[f"{part}.3.weight"].T + weights[f"{part}.3.bias"]


@jax.jit
def lip_features(weights: Weights, frames: Float[Array, "N 3 5 224 224"]) -> Float[Array, "N 1024"]:
    """Features of five frames each, channels in the order blue, green, red, 0..255."""
    return embedded(convolved(frames, weights, "netcnnlip", LIPS), weights, "netfclip")


@jax.jit
def sound_features(weights: Weights, mfcc: Float[Array, "N 1 13 20"]) -> Float[Array, "N 1024"]:
    """Features of a fifth of a second each."""
    return embedded(convolved(mfcc, weights, "netcnnaud", SOUND), weights, "netfcaud")


def syncnet(
    weights: Weights, faces: UInt8[np.ndarray, "T 224 224 3"], samples: Float[np.ndarray, "S"]
) -> SyncScores:
    """The scores of faces at 25 frames a second (RGB) with a sound of 16 kHz. Raises Mistake for a short video."""
    count = min(len(faces), len(samples) * FPS // SAMPLE_RATE) - SPAN
    if count < 1:
        raise Mistake(f"{len(faces)} frames with sound are too few for SyncNet; {SPAN + 1} are needed")
    cepstra = mfcc(np.rint(samples * 32767)).T
    lips, sound = [], []
    for first in range(0, count, BATCH):
        starts = range(first, min(first + BATCH, count))
        shown = np.stack([faces[k : k + SPAN, :, :, ::-1].transpose(3, 0, 1, 2) for k in starts])
        heard = np.stack([cepstra[None, :, PER_FRAME * k : PER_FRAME * (k + SPAN)] for k in starts])
        lips.append(np.asarray(lip_features(weights, shown.astype(np.float32))))
        sound.append(np.asarray(sound_features(weights, heard.astype(np.float32))))
    return sync_scores(np.concatenate(lips), np.concatenate(sound))


def cut_faces(path: Path, finder: FaceFinder) -> UInt8[np.ndarray, "T 224 224 3"]:
    """The face in every frame at 25 frames a second, as large and as high in its square as in the release.

    The file is read twice, so that memory does not hold its frames. Raises Mistake without a face.
    """
    boxes = [_box(face.points) if face else None for face in finder.follow(media.read_video(path))]
    known = {k: box for k, box in enumerate(boxes) if box is not None}
    if not known:
        raise Mistake(f"{path}: no face is found in any frame")
    values = np.array(list(known.values()))
    filled = np.stack([np.interp(np.arange(len(boxes)), list(known), values[:, i]) for i in range(3)], 1)
    smooth = signal.medfilt(filled, (13, 1)) if len(filled) >= 13 else filled
    cut = np.stack([_cut(frame, *box) for frame, box in zip(media.read_video(path), smooth.tolist(), strict=True)])
    fps = media.probe(path).fps
    shown = np.rint(np.arange(int(len(cut) * FPS / fps)) * fps / FPS).astype(int)
    return cut[np.minimum(shown, len(cut) - 1)]


def mfcc(samples: Float[np.ndarray, "S"]) -> Float[np.ndarray, "M 13"]:
    """13 cepstra every 10 ms of a sound at 16 kHz, as `python_speech_features` computes them by default."""
    length, step, points, bands = 400, 160, 512, 26
    emphasised = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    count = 1 + max(0, -(-(len(samples) - length) // step))
    padded = np.pad(emphasised, (0, max(0, (count - 1) * step + length - len(emphasised))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::step][:count]
    power = np.square(np.abs(np.fft.rfft(frames, points))) / points
    mels = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), bands + 2)
    edges = np.floor((points + 1) * 700 * (10 ** (mels / 2595) - 1) / SAMPLE_RATE)
    bins = np.arange(points // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters = np.where(bins < edges[1:-1, None], rising, falling).clip(0)
    tiny = np.finfo(float).eps
    energies = np.log(np.maximum(power @ filters.T, tiny))
    cepstra = fft.dct(energies, type=2, axis=1, norm="ortho")[:, :13]
    cepstra *= 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    cepstra[:, 0] = np.log(np.maximum(power.sum(1), tiny))
    return cepstra


def _box(points: Float[np.ndarray, "468 2"]) -> tuple[float, float, float]:
    """Middle of a face, and half of its longer side."""
    low, high = points.min(0), points.max(0)
    return (*((low + high) / 2).tolist(), float((high - low).max()) / 2)


def _cut(frame: Frame, x: float, y: float, half: float) -> UInt8[np.ndarray, "224 224 3"]:
    """The square around a face; what lies outside the picture is grey, as in the release."""
    corners = (x - half * (1 + CROP), y - half, x + half * (1 + CROP), y + half * (1 + 2 * CROP))
    picture = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(picture.transform(
        (SIDE, SIDE), Image.Transform.EXTENT, corners, Image.Resampling.BILINEAR, fillcolor=(110, 110, 110)
    ))  # fmt: skip


def _normed(x: Array, weights: Weights, name: str) -> Array:
    mean, var, scale, shift = (
        _column(weights[f"{name}.{each}"], x.ndim) for each in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) * jax.lax.rsqrt(var + EPS) * scale + shift


def _column(values: Any, dims: int) -> Array:
    return jnp.reshape(values, (1, -1, *(1,) * (dims - 2)))
