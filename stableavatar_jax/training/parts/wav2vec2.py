"""Training the audio encoder from nothing, on what is known of synthetic speech: loss, run, data, validation, export.

Three linear heads, thrown away later, read the features: the log-mel spectrum of the undisturbed sound, opening and
width of the mouth, and the phoneme. What the features must hold for those is what the DiT needs of them.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import optax

from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.iterator import CheckpointableIterator, open_batches
from stableavatar_jax.data.sources.speech import SpeechSource
from stableavatar_jax.frames import SAMPLE_RATE
from stableavatar_jax.models.compute import settle
from stableavatar_jax.models.config import Wav2Vec2Config
from stableavatar_jax.models.heads import Heads
from stableavatar_jax.models.wav2vec2 import Wav2Vec2
from stableavatar_jax.shapes import Array, Bool, Float
from stableavatar_jax.training.logs import note
from stableavatar_jax.training.loop import Validate
from stableavatar_jax.training.parts.config import Wav2Vec2LossConfig, Wav2Vec2TrainConfig
from stableavatar_jax.training.parts.networks import (
    Params,
    check_parts,
    exported_parts,
    open_clip_set,
    prepare_parts,
)
from stableavatar_jax.training.parts.part import Part
from stableavatar_jax.training.parts.probe import probe
from stableavatar_jax.training.run import Run
from stableavatar_jax.training.state import TrainState, average

HIDDEN_SPAN = 5  # features in a row that are hidden together, 0.1 s


def prepare(config: Wav2Vec2TrainConfig) -> Run:
    """The run of a config."""
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
    """Endless batches of speech. Raises Mistake."""
    encoder = config.model.wav2vec2

    def times(samples: int) -> np.ndarray:
        field, step = encoder.reach()
        return (step * np.arange(encoder.output_length(samples)) + (field - 1) / 2) / SAMPLE_RATE

    source = SpeechSource(open_clip_set(config.clips), config.speech, times, Tally(config.on_bad))
    return open_batches(source, batch=config.batch, seed=config.seed, host=host, hosts=hosts)


def make_validate(run: Run) -> Validate:
    """What asks whether a linear map of the features finds the mouth: `RUN/validation.csv` (`probe`)."""
    config: Wav2Vec2TrainConfig = run.config
    clips, encoder = open_clip_set(config.clips), run.model["wav2vec2"]
    held_out = open_clip_set(config.held_out) if config.held_out else clips
    measure = probe(encoder, clips, held_out, config.speech.frames)

    def validate(step: int, state: TrainState) -> None:
        note(config.run_dir / "validation.csv", step, measure(average(state)["wav2vec2"]))

    return validate


WAV2VEC2_PART = Part(
    names=("wav2vec2",),
    check=lambda config: check_parts(config, ("wav2vec2",)),
    prepare=prepare,
    open_data=open_data,
    make_validate=make_validate,
    exported=exported_parts(("wav2vec2",)),
)
