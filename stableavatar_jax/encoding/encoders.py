"""Picture, sound and prompt to what the transformer is conditioned on; each encoder is loaded, run and freed.

The text encoder alone is 11 GB, so no two encoders are in memory at once, and none when the transformer is loaded.
"""

import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.checkpoint import Parts
from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion.windows import WindowConfig, WindowPlan
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.encoding.reference import LatentEncoder, encode_reference
from stableavatar_jax.encoding.stream import window_sounds
from stableavatar_jax.encoding.tokens import tokenize
from stableavatar_jax.media import Samples
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

    def image(self, picture: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "I G"]:
        """The picture's tokens, from values in -1..1."""
        module, params = self._load("clip_vision", self.picture_dtype)
        return np.asarray(jitted(module)({"params": params}, jnp.asarray(picture)[None])[0], np.float32)

    def reference(self, picture: Float[np.ndarray, "H W 3"], latent_frames: int) -> Float[np.ndarray, "F h w Y"]:
        """The input that every window gets of the picture (`encode_reference`), from values in -1..1."""
        encoder = LatentEncoder(*self._load("vae", self.picture_dtype))
        return encode_reference(encoder, picture, latent_frames, self.model.after_picture)

    def sound(self) -> "SoundEncoder":
        """The audio encoder, loaded: it stays as long as the result is held."""
        return SoundEncoder(*self._load("wav2vec2"))

    def conditions(
        self,
        picture: Float[np.ndarray, "H W 3"],
        samples: Float[np.ndarray, "S"],
        prompts: list[str],
        plan: WindowPlan,
        fps: float,
    ) -> Conditions:
        """All conditions of a video, from a fitted picture, 16 kHz sound, and prompt and negative prompt."""
        text, text_mask = self.text(prompts)
        windows = WindowConfig(window=plan.window, overlap=plan.overlap)
        return Conditions(
            text=text,
            text_mask=text_mask,
            image=self.image(picture),
            audio=self.sound()(window_sounds(Samples(samples), windows, fps)),
            reference=self.reference(picture, plan.window),
        )


class SoundEncoder:
    """The audio encoder, given windows a fixed number at a time: one compiled program, however many windows there are.

    >>> encode = encoders.sound()
    >>> features = encode(sounds)
    """

    def __init__(self, module: Wav2Vec2, params: Any):
        self.rows = SOUNDS_AT_ONCE.get(module.compute.platform, SOUNDS_AT_ONCE_ELSEWHERE)
        """Windows that are encoded at once; fewer are filled up with silence, and take as long."""
        self._apply, self._params = jitted(module), params

    def __call__(self, sounds: Iterable[Float[np.ndarray, "S"]]) -> Float[np.ndarray, "windows A V"]:
        """Features of each window's normalised sound, float32; all windows have one length."""
        coming, features = iter(sounds), []
        while group := list(itertools.islice(coming, self.rows)):
            batch = np.zeros((self.rows, *group[0].shape), np.float32)
            batch[: len(group)] = group
            made = self._apply({"params": self._params}, batch)
            features.append(np.asarray(made, np.float32)[: len(group)])
        return np.concatenate(features)


@functools.lru_cache(maxsize=16)
def jitted(module: Any) -> Callable[..., Any]:
    """The network's `apply`, jitted once for all networks that are equal."""
    return jax.jit(module.apply, compiler_options=compiler_options(module.compute.platform))
