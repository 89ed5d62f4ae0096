"""What a command line reads and writes, looked at before anything is loaded or computed. Read without JAX."""

import math
import os
import sys
from pathlib import Path

from stableavatar_jax.errors import Mistake
from stableavatar_jax.inputs import check_directory, check_file, check_there
from stableavatar_jax.locks import hidden
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.whole import check_outputs

MAKE_ONE = "give a model directory, made by `python -m convert import`"
BITS_PER_PIXEL = 0.2
"""About twice what H.264 takes at the usual quality, for the check of free space."""


def check_given(config: SampleConfig) -> None:
    """Raise Mistake where an option is missing that the job needs, or a file that it reads is none."""
    inputs = config.inputs
    for name in missing(config):
        raise Mistake(f"--{name} is missing: a video is made from --image and --audio, see --help")
    check_weights(config)
    if is_live(inputs.audio):
        _check_live(config)
    if config.keeping.preview and (inputs.image is None or inputs.decode_only or config.keeping.save_conditions):
        raise Mistake(
            "--preview shows what noise becomes, in the colours of --image; it needs one, and goes with neither "
            "--decode-only nor --save-conditions"
        )
    for path in (inputs.image, inputs.audio, inputs.conditions, inputs.decode_only, config.denoising.fewer.cache):
        if path is not None and not is_live(path):
            check_file(path)


def missing(config: SampleConfig) -> list[str]:
    """Names of the inputs that a video needs and that are not given."""
    inputs = config.inputs
    needed = ("audio",) if inputs.decode_only or inputs.conditions else ("image", "audio")
    return [name for name in needed if getattr(inputs, name) is None]


def check_weights(config: SampleConfig) -> None:
    """Raise Mistake where no weights are given, or there are none."""
    weights = config.weights
    if weights.checkpoint is None and not weights.random_weights:
        raise Mistake(f"--checkpoint is missing: {MAKE_ONE}")
    if weights.checkpoint is not None:
        check_directory(weights.checkpoint, MAKE_ONE)
        check_file(weights.checkpoint / "config.json", MAKE_ONE)
    if weights.transformer is not None:
        if weights.checkpoint is None:
            raise Mistake("--transformer needs --checkpoint: the model directory of all other networks")
        check_directory(weights.transformer, MAKE_ONE)
    for option in weights.lora:
        check_there(split_scale(option)[0])


def _check_live(config: SampleConfig) -> None:
    """Raise Mistake for what cannot be with a sound whose end is not known."""
    given = {
        "--latents": config.keeping.latents, "--save-conditions": config.keeping.save_conditions,
        "--conditions": config.inputs.conditions, "--decode-only": config.inputs.decode_only,
        "--order plain": config.denoising.order == "plain", "--audio-track": config.inputs.audio_track,
        "--start": config.inputs.start, "--duration": config.inputs.duration,
    }  # fmt: skip
    for option, value in given.items():
        if value:
            raise Mistake(f"{option} needs a recording whose end is known; --audio - is a live sound")
    if sys.stdin is None or sys.stdin.isatty():
        raise Mistake("--audio - reads signed 16-bit little-endian mono samples at 16 kHz: pipe them to standard input")


def is_live(audio: Path | None) -> bool:
    """Whether the sound comes on standard input while the video is made."""
    return audio == Path("-")


def run_folder(output: Path) -> Path:
    """Where the run of an output lies until that is whole."""
    return hidden(output, ".run")


def split_scale(option: str) -> tuple[Path, float]:
    """File and scale of a --lora option, PATH or PATH:SCALE. A colon in the name of a file that is there is its own.

    Raises Mistake for a scale that is no finite number.
    """
    path, colon, scale = option.rpartition(":")
    if not colon or Path(option).exists():
        return Path(option), 1.0
    try:
        factor = float(scale)
    except ValueError:
        factor = math.nan
    if not path or not math.isfinite(factor):
        raise Mistake(f"--lora {option}: no such file, and {scale!r} is not a scale; give PATH or PATH:SCALE")
    return Path(path), factor


def check_written(config: SampleConfig, frames: int = 0, latent_frames: int = 0) -> None:
    """Raise Mistake where a result cannot be written later, or would be written over an input.

    With the video's length, also where the disk has no room for it.
    """
    keeping, frame = config.keeping, config.frame
    run = Path(os.path.realpath(run_folder(keeping.output)))
    for path in (*_read(config), keeping.latents, keeping.preview, keeping.save_conditions):
        if path is not None and Path(os.path.realpath(path)).is_relative_to(run):
            raise Mistake(f"{path}: lies in the run of {keeping.output}, which goes when that is whole; move it first")
    if keeping.save_conditions:
        return check_outputs((keeping.save_conditions, 0), inputs=_read(config))
    pixels = frames * frame.height * frame.width * frame.enlarge**2
    rows, columns = frame.latent_size
    sizes: list[tuple[Path | None, int]] = [(keeping.output, int(pixels * BITS_PER_PIXEL / 8))]
    if not config.inputs.decode_only:
        sizes.append((keeping.latents, 4 * latent_frames * rows * columns * config.model.vae.z_dim))
    sizes.append((keeping.preview, 3 * frame.height * frame.width))
    return check_outputs(*sizes, inputs=_read(config))


def _read(config: SampleConfig) -> list[Path | None]:
    """The files and folders of all inputs; of a model directory those that it consists of."""
    inputs, folder = config.inputs, config.weights.checkpoint
    parts = [f"{part}{ending}" for part in config.parts for ending in ("", ".safetensors")]
    names = ("config.json", "sampling.json", "tokenizer.json", *parts)
    model = [folder / name for name in names] if folder else []
    if other := config.weights.transformer:
        model += [other / name for name in ("dit", "dit.safetensors")]
    loras = [split_scale(option)[0] for option in config.weights.lora]
    cache = config.denoising.fewer.cache
    return [inputs.image, inputs.audio, inputs.conditions, inputs.decode_only, cache, *loras, *model]
