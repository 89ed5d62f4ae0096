"""Picture, sound and prompt to what the transformer is conditioned on; each encoder is loaded, run and freed.

The text encoder alone is 11 GB, so no two encoders are in memory at once, and none when the transformer is loaded.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from stableavatar_jax.checkpoint import load_part
from stableavatar_jax.compiling import compiler_options
from stableavatar_jax.diffusion.windows import WindowPlan
from stableavatar_jax.errors import Mistake
from stableavatar_jax.media import window_sound
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.models.vae import VAE
from stableavatar_jax.shapes import Bool, Float, Int

TEXTS_AT_ONCE = 16  # features of a whole data set's prompts would not fit in memory while they are made
MASK_CHANNELS = 4  # one for each video frame of a latent frame



@dataclass(frozen=True, kw_only=True)
class Conditions:
    """All that a video is made from, beside noise; float32 on the host."""

    text: Float[np.ndarray, "T L E"]
    """Features of the prompt and of the negative prompt."""
    text_mask: Bool[np.ndarray, "T L"]
    """Which of their tokens are text and not padding."""
    image: Float[np.ndarray, "I G"]
    """The picture's tokens."""
    reference: Float[np.ndarray, "F H W Y"]
    """Mask and latents of the picture as the first frame of a window, the same for every window."""
    audio: Float[np.ndarray, "windows A V"]
    """Features of what is heard in each window."""


@dataclass(frozen=True)
class Encoders:
    """Where the encoders' weights come from, and how they are shown to be at work."""

    model: AvatarConfig
    directory: Path | None
    """Model directory; None draws weights from the seed."""
    text_dtype: str = "bfloat16"
    """Of the text encoder, by far the largest; the others run in float32, as released."""
    seed: int = 0
    report: Callable[[str], None] = lambda name: None
    """Told each encoder's part before it is loaded."""

    def _load(self, name: str, dtype: str = "float32") -> tuple[Any, Any]:
        self.report(name)
        return load_part(self.directory, self.model, name, dtype=dtype, seed=self.seed)

    def text(self, prompts: list[str]) -> tuple[Float[np.ndarray, "T L E"], Bool[np.ndarray, "T L"]]:
        """Features of each prompt, cut and padded to the transformer's text length, and which rows are text."""
        ids, mask = tokenize(prompts, self.model, self.directory)
        module, params = self._load("umt5", self.text_dtype)
        apply = jax.jit(module.apply, compiler_options=compiler_options())
        parts = [slice(i, i + TEXTS_AT_ONCE) for i in range(0, len(ids), TEXTS_AT_ONCE)]
        features = [np.asarray(apply({"params": params}, jnp.asarray(ids[i]), jnp.asarray(mask[i]))) for i in parts]
        return np.where(mask[..., None], np.concatenate(features).astype(np.float32), 0), mask

    def image(self, picture: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "I G"]:
        """The picture's tokens, from values in -1..1."""
        module, params = self._load("clip_vision")
        return np.asarray(jax.jit(module.apply)({"params": params}, jnp.asarray(picture)[None])[0])

    def reference(self, picture: Float[np.ndarray, "H W 3"], latent_frames: int) -> Float[np.ndarray, "F h w Y"]:
        """What every window is told of the picture (`encode_reference`), from values in -1..1."""
        return encode_reference(*self._load("vae"), picture, latent_frames, self.model.after_picture)

    def audio(self, sounds: Iterable[Float[np.ndarray, "S"]]) -> Float[np.ndarray, "windows A V"]:
        """Features of each window's normalised sound; all windows have one length."""
        module, params = self._load("wav2vec2")
        apply = jax.jit(module.apply)
        return np.stack([np.asarray(apply({"params": params}, jnp.asarray(sound)[None])[0]) for sound in sounds])

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
        return Conditions(
            text=text,
            text_mask=text_mask,
            image=self.image(picture),
            audio=self.audio(plan_sounds(samples, plan, fps)),
            reference=self.reference(picture, plan.window),
        )


def plan_sounds(samples: Float[np.ndarray, "S"], plan: WindowPlan, fps: float) -> list[Float[np.ndarray, "s"]]:
    """What is heard in each window of a plan: normalised, and padded with silence (SPEC 6)."""
    frames = 4 * (plan.window - 1) + 1
    return [window_sound(samples, start, frames, fps) for start in plan.video_starts]


def encode_reference(
    vae: VAE,
    params: Any,
    picture: Float[np.ndarray, "H W 3"],
    latent_frames: int,
    after_picture: Literal["grey", "again"] = "grey",
) -> Float[np.ndarray, "F h w Y"]:
    """The picture as the first frame of a window: four mask channels that are 1 on the first latent frame, then the
    latents' posterior mode, after the picture's that of grey frames (SPEC 6) or the picture's again.
    """
    encode = jax.jit(
        lambda params, video, cache: vae.apply({"params": params}, video, cache, method="encode"), donate_argnums=2
    )
    latents, cache = [], None
    video = jnp.asarray(picture)[None, None]
    # One at a time: the memory of one, and two compilations for any length.
    for _ in range(latent_frames if after_picture == "grey" else 1):
        mean, _, cache = encode(params, video, cache)
        latents.append(np.asarray(mean[0]))
        video = jnp.zeros((1, vae.config.time_factor, *picture.shape))
    z = np.concatenate(latents)
    z = np.concatenate([z, np.repeat(z[:1], latent_frames - len(z), axis=0)])
    mask = np.zeros((*z.shape[:-1], MASK_CHANNELS), z.dtype)
    mask[0] = 1
    return np.concatenate([mask, z], -1)


def tokenize(
    prompts: list[str], model: AvatarConfig, directory: Path | None
) -> tuple[Int[np.ndarray, "T L"], Bool[np.ndarray, "T L"]]:
    """Token ids, cut and padded to the transformer's text length, and which of them are text.

    Raises ValueError where the model directory has no tokenizer.json, or one of another vocabulary.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it misses PyTorch, which is not needed here
    from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

    if model.tokenizer == "bytes":
        tokenizer: Any = ByT5Tokenizer()
    else:
        file = Path(directory or ".") / "tokenizer.json"
        if directory is None or not file.is_file():
            raise Mistake(f"{file}: no such file; copy UMT5's tokenizer.json there (import --part umt5 does)")
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="<pad>", eos_token="</s>")
    length = model.dit.text_len
    out = tokenizer(prompts, padding="max_length", truncation=True, max_length=length, return_tensors="np")
    ids = np.asarray(out["input_ids"], np.int32)
    if ids.max() >= model.umt5.vocab:
        raise Mistake(f"tokenizer.json makes id {ids.max()}, the text encoder knows {model.umt5.vocab} tokens")
    return ids, np.asarray(out["attention_mask"], bool)


def save_conditions(path: Path, conditions: Conditions, about: dict[str, Any]) -> None:
    """Write conditions as safetensors, whole or not at all; `about` says what video they are for."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        arrays = {each.name: np.ascontiguousarray(getattr(conditions, each.name)) for each in fields(Conditions)}
        save_file(arrays, partial, {key: json.dumps(value) for key, value in about.items()})
        partial.replace(path)
    except OSError as error:
        raise Mistake(f"{path}: cannot be written ({error.strerror}); choose another path") from error
    finally:
        partial.unlink(missing_ok=True)


def load_conditions(path: Path, about: dict[str, Any]) -> Conditions:
    """Conditions from a file; raises Mistake where it is not one, or was made for another video."""
    again = "make it again with --save-conditions"
    if not path.is_file():
        raise Mistake(f"{path}: no such file; {again}")
    try:
        with safe_open(path, "numpy") as file:
            made_for = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise Mistake(f"{path}: no readable safetensors file ({error}); {again}") from None
    if arrays.keys() != {each.name for each in fields(Conditions)}:
        raise Mistake(f"{path}: a safetensors file, but not of conditions; {again}")
    for key, value in about.items():
        if made_for.get(key) != value:
            found = made_for.get(key)
            raise Mistake(f"{path}: made for {key} {found}, not {value}; {again}, or change --{key}")
    return Conditions(**arrays)
