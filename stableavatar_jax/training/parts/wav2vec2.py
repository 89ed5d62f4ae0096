"""Training the audio encoder from nothing, on what is known of synthetic speech: its options, loss, run, data, export.

Three linear heads, thrown away later, read the features: the log-mel spectrum of the undisturbed sound, opening and
width of the mouth, and the phoneme. What the features must hold for those is what the DiT needs of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import librosa
import numpy as np
import optax

from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.iterator import CheckpointableIterator, open_batches
from stableavatar_jax.data.sources.speech import SpeechConfig, SpeechSource
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.models.compute import settle
from stableavatar_jax.models.config import Wav2Vec2Config
from stableavatar_jax.models.layers import Linear
from stableavatar_jax.models.wav2vec2 import Wav2Vec2
from stableavatar_jax.shapes import Array, Bool, Float
from stableavatar_jax.training.logs import note
from stableavatar_jax.training.loop import Validate
from stableavatar_jax.training.parts.networks import Params, PartConfig, average, open_clip_set, prepare_parts
from stableavatar_jax.training.parts.probe import probe
from stableavatar_jax.training.run import Run, best_state, write_parts
from stableavatar_jax.training.state import TrainState

HIDDEN_SPAN = 5  # features in a row that are hidden together, 0.1 s


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2LossConfig:
    """What the audio encoder minimises: mean errors of three heads."""

    mel: float = 0.3
    """Weight of the squared error of the log-mel spectrum."""
    bands: int = 80
    """Of the spectrum."""
    mouth: float = 10.0
    """Weight of the squared error of opening and width, which are 0 to 1."""
    phoneme: float = 0.3
    """Weight of the phonemes' cross-entropy, in nats."""
    hidden: float = 0.1
    """Share of the features hidden from the transformer, which then guesses them from those around (SpecAugment)."""


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2TrainConfig(PartConfig):
    """Train the audio encoder on clips with labels; the same command goes on where it stopped.

    python train.py --part wav2vec2 --config configs/demo_wav2vec2.py --clips DIR --run-dir DIR --steps N
    """

    speech: SpeechConfig = field(default_factory=SpeechConfig)
    loss: Wav2Vec2LossConfig = field(default_factory=Wav2Vec2LossConfig)
    batch: int = 16
    """Rows of a step, over all devices together."""


Config = Wav2Vec2TrainConfig


class Heads(nn.Module):
    """Linear maps of the features to what is known of the sound."""

    dim: int
    bands: int
    phonemes: int

    @nn.compact
    def __call__(self, features: Float[Array, "B A D"]) -> dict[str, Float[Array, "B A O"]]:
        """Log-mel spectrum, opening and width, and scores of phonemes, for every feature."""
        sizes = {"mel": self.bands, "mouth": 2, "phoneme": self.phonemes}
        return {name: Linear(size, (None, None), name=name)(features) for name, size in sizes.items()}

    def example(self) -> tuple[jax.ShapeDtypeStruct]:
        """Shape of the input, for `init`."""
        return (jax.ShapeDtypeStruct((1, 1, self.dim), jnp.float32),)


def prepare(config: Wav2Vec2TrainConfig) -> Run:
    """The run of a config; raises ValueError where the batch cannot be spread over the devices."""
    encoder = Wav2Vec2(config.model.wav2vec2, settle(jax.devices()[0], config.dtype, param_dtype="float32"))
    heads = Heads(encoder.config.dim, config.loss.bands, config.speech.phonemes)
    bank = mel_bank(encoder.config, config.loss.bands)

    def loss(params: Params, batch: Mapping[str, Array], key: Array) -> tuple[Float[Array, ""], dict[str, Array]]:
        masked = hidden(key, batch["phoneme"].shape, config.loss.hidden)
        features: Any = encoder.apply({"params": params["wav2vec2"]}, batch["sound"], masked)
        told: Any = heads.apply({"params": params["heads"]}, features.astype(jnp.float32))
        return heads_loss(told, log_mel(batch["clean"], encoder.config, bank), batch, config.loss)

    return prepare_parts(config, {"wav2vec2": encoder, "heads": heads}, loss)


def heads_loss(
    told: Mapping[str, Float[Array, "B A O"]],
    mel: Float[Array, "B A M"],
    batch: Mapping[str, Array],
    config: Wav2Vec2LossConfig,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The loss of what the heads say, and what is reported of it."""
    errors = {
        "mel": jnp.square(told["mel"] - mel).mean(),
        "mouth": jnp.square(told["mouth"] - batch["mouth"]).mean(),
        "phoneme": optax.softmax_cross_entropy_with_integer_labels(told["phoneme"], batch["phoneme"]).mean(),
    }
    right = (told["phoneme"].argmax(-1) == batch["phoneme"]).mean()
    opening = jnp.corrcoef(told["mouth"][..., 0].ravel(), batch["mouth"][..., 0].ravel())[0, 1]
    loss = config.mel * errors["mel"] + config.mouth * errors["mouth"] + config.phoneme * errors["phoneme"]
    return loss, {**errors, "phonemes_right": right, "opening_r": opening}


def hidden(key: Array, shape: tuple[int, ...], share: float) -> Bool[Array, "B A"]:
    """Which features to hide: spans of `HIDDEN_SPAN`, about `share` of all."""
    begins = jax.random.bernoulli(key, share / HIDDEN_SPAN, shape)
    padded = jnp.pad(begins, ((0, 0), (HIDDEN_SPAN - 1, 0)))
    return jnp.stack([padded[:, i : i + shape[1]] for i in range(HIDDEN_SPAN)]).any(0)


def mel_bank(config: Wav2Vec2Config, bands: int) -> Float[np.ndarray, "K M"]:
    """Weights from the power spectrum of a feature's samples to mel bands."""
    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=spectrum_size(config), n_mels=bands).T


def spectrum_size(config: Wav2Vec2Config) -> int:
    """Length of the Fourier transform of the samples that a feature is made of: the next power of two."""
    return 1 << (config.reach()[0] - 1).bit_length()


def log_mel(
    sound: Float[Array, "B S"], config: Wav2Vec2Config, bank: Float[np.ndarray, "K M"]
) -> Float[Array, "B A M"]:
    """Half the log of the mel spectrum of the samples that each feature is made of; about -3 to 3 for sound of unit
    variance."""
    field, step = config.reach()
    places = step * np.arange(config.output_length(sound.shape[1]))[:, None] + np.arange(field)
    pieces = sound[:, places] * np.hanning(field).astype(np.float32)
    power = jnp.square(jnp.abs(jnp.fft.rfft(pieces, spectrum_size(config))))
    return jnp.log(power @ bank + 1e-3) / 2


def open_data(config: Wav2Vec2TrainConfig, *, host: int = 0, hosts: int = 1) -> CheckpointableIterator:
    """Endless batches of speech. Raises Mistake, Mistake, Mistake."""
    encoder = config.model.wav2vec2

    def times(samples: int) -> np.ndarray:
        field, step = encoder.reach()
        return (step * np.arange(encoder.output_length(samples)) + (field - 1) / 2) / SAMPLE_RATE

    source = SpeechSource(open_clip_set(config.clips), config.speech, times, Tally(config.on_bad))
    return open_batches(source, batch=config.batch, seed=config.seed, host=host, hosts=hosts)


def export(config: Wav2Vec2TrainConfig, output: Path) -> tuple[int, None]:
    """Write the best checkpoint's average as part of a model directory, without the heads; return the checkpoint's
    step. Raises Mistake, Mistake, Mistake.
    """
    state = best_state(prepare(config))
    write_parts(output, config, {"wav2vec2": average(state)["wav2vec2"]})
    return int(state.step), None


def make_validate(run: Run) -> Validate:
    """What asks whether a linear map of the features finds the mouth: `RUN/validation.csv` (`probe`)."""
    config: Wav2Vec2TrainConfig = run.config
    clips, encoder = open_clip_set(config.clips), run.model["wav2vec2"]
    held_out = open_clip_set(config.held_out) if config.held_out else clips
    measure = probe(encoder, clips, held_out, config.speech.frames)

    def validate(step: int, state: TrainState) -> None:
        note(config.run_dir / "validation.csv", step, measure(average(state)["wav2vec2"]))

    return validate
