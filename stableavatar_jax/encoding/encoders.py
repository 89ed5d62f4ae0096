"""Picture, sound and prompt to what the transformer is conditioned on; each encoder is loaded, run and freed.

The text encoder alone is 11 GB, so no two encoders are in memory at once, and none when the transformer is loaded.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.checkpoint import Parts
from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.encoding.reference import LatentEncoder, encode_reference
from stableavatar_jax.encoding.tokens import tokenize
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.models.wav2vec2 import Wav2Vec2
from stableavatar_jax.shapes import Bool, Float

TEXTS_AT_ONCE = 16  # features of a whole data set's prompts would not fit in memory while they are made
SOUNDS_AT_ONCE = {"cpu": 1}
"""Windows of sound in one call of the audio encoder, by platform; on an accelerator more of them fill it better."""
SOUNDS_AT_ONCE_ELSEWHERE = 8


@dataclass(frozen=True)
class Encoders:
    """The encoders of a model, loaded from `parts` one at a time."""

    parts: Parts
    """What loads them."""
    text_dtype: str = "bfloat16"
    """Type of the text encoder, by far the largest."""
    picture_dtype: str = "float32"
    """Type of the image encoder and the autoencoder. The audio encoder runs in float32, as released: it is small."""
    report: Callable[[str], None] = lambda name: None
    """Called with the name of each encoder before it is loaded."""

    @property
    def model(self) -> AvatarConfig:
        """The model they belong to."""
        return self.parts.model

    def _load(self, name: str, dtype: str = "float32") -> tuple[Any, Any]:
        self.report(name)
        return self.parts.load(name, dtype)

    def text(self, prompts: list[str]) -> tuple[Float[np.ndarray, "T L E"], Bool[np.ndarray, "T L"]]:
        """Features of each prompt, cut and padded to the transformer's text length, and which rows are text."""
        ids, mask = tokenize(prompts, self.model, self.parts.directory)
        module, params = self._load("umt5", self.text_dtype)
        apply = jitted(module)
        parts = [slice(i, i + TEXTS_AT_ONCE) for i in range(0, len(ids), TEXTS_AT_ONCE)]
        features = [np.asarray(apply({"params": params}, jnp.asarray(ids[i]), jnp.asarray(mask[i]))) for i in parts]
        return np.where(mask[..., None], np.concatenate(features).astype(np.float32), 0), mask

    def images(self, pictures: Iterable[Float[np.ndarray, "H W 3"]]) -> list[Float[np.ndarray, "I G"]]:
        """The tokens of each picture, from values in -1..1."""
        module, params = self._load("clip_vision", self.picture_dtype)
        apply = jitted(module)
        return [np.asarray(apply({"params": params}, jnp.asarray(each)[None])[0], np.float32) for each in pictures]

    def references(
        self, pictures: Iterable[Float[np.ndarray, "H W 3"]], latent_frames: int
    ) -> list[Float[np.ndarray, "F h w Y"]]:
        """The input that every window gets of each picture (`encode_reference`), from values in -1..1."""
        encoder = LatentEncoder(*self._load("vae", self.picture_dtype))
        return [encode_reference(encoder, each, latent_frames, self.model.after_picture) for each in pictures]

    def sound(self) -> "SoundEncoder":
        """The audio encoder, loaded: it stays as long as the result is held."""
        return SoundEncoder(*self._load("wav2vec2"))


class SoundEncoder:
    """The audio encoder, given windows a fixed number at a time: one compiled program, however many windows there are.

    >>> encode = encoders.sound()
    >>> for features in encode(sounds): ...
    """

    def __init__(self, module: Wav2Vec2, params: Any):
        self.rows = SOUNDS_AT_ONCE.get(module.compute.platform, SOUNDS_AT_ONCE_ELSEWHERE)
        """Windows that are encoded at once; fewer are filled up with silence, and take as long."""
        self._apply, self._params = jitted(module), params

    def __call__(
        self, sounds: Iterable[Float[np.ndarray, "S"]], *, at_once: int | None = None
    ) -> Iterator[Float[np.ndarray, "A V"]]:
        """Features of each window's normalised sound, float32, one after another; all windows have one length.

        `at_once` windows are waited for before they are encoded, by default as many as fill the device.
        """
        coming, rows = iter(sounds), at_once or self.rows
        while group := list(itertools.islice(coming, rows)):
            batch = np.zeros((rows, *group[0].shape), np.float32)
            batch[: len(group)] = group
            made = self._apply({"params": self._params}, batch)
            yield from np.asarray(made, np.float32)[: len(group)]


@functools.lru_cache(maxsize=16)
def jitted(module: Any) -> Callable[..., Any]:
    """The network's `apply`, jitted once for all networks that are equal."""
    return jax.jit(module.apply, compiler_options=compiler_options(module.compute.platform))
