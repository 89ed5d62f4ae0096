"""The Python interface: a model that is loaded once and makes one talking video after another.

    import stableavatar_jax

    avatar = stableavatar_jax.load("demo")
    video = avatar.video("face.png", "speech.wav", steps=16)
    video.save("talk.mp4")

Options have the names, meanings and errors (`Mistake`) of `sample.py`'s.
"""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import wavfile

from stableavatar_jax import media
from stableavatar_jax.compiling import keep_compiled
from stableavatar_jax.config import from_json, to_json
from stableavatar_jax.errors import Mistake
from stableavatar_jax.inputs import check_file
from stableavatar_jax.options import nearest
from stableavatar_jax.presets import load_preset
from stableavatar_jax.sampling.avatar import Avatar, open_avatar
from stableavatar_jax.sampling.config import SampleConfig, Weights, names
from stableavatar_jax.sampling.defaults import with_defaults
from stableavatar_jax.sampling.job import Job, excerpt
from stableavatar_jax.sampling.loras import read_loras
from stableavatar_jax.sampling.progress import Bars, Event, Finished, Tell
from stableavatar_jax.sampling.video import frames, write
from stableavatar_jax.shapes import UInt8
from stableavatar_jax.whole import check_output

Picture = str | Path | Image.Image | np.ndarray
"""A file, a Pillow picture, or pixels [H, W], [H, W, 3] or [H, W, 4], uint8 or floating 0..1."""
Recording = str | Path | np.ndarray
"""A file, or samples [S] or [S, channels], floating -1..1 or integers."""


def load(model: str | Path = "demo", **options: Any) -> "Model":
    """A model directory, or the name of a preset that has one (`demo`, the small avatar that comes along).

    `options` are those of its weights: `dtype`, `attention`, `lora` (paths, or "PATH:SCALE"), and the defaults of
    `Model.video`. Weights are read with the first video, and are kept. Raises Mistake.
    """
    keep_compiled()
    if Path(model).is_dir():
        config = with_defaults(SampleConfig(weights=Weights(checkpoint=Path(model))), Path(model))
    elif "/" in str(model):
        raise Mistake(f"{model}: no such model directory; `python -m convert import` makes one")
    else:
        config = load_preset(model, SampleConfig)
    if isinstance(options.get("lora"), (str, Path)):
        options["lora"] = [options["lora"]]
    return Model(configure(config, options, ("inputs", "weights", "frame", "denoising")))


class Model:
    """A model at work. Weights and compiled programs are kept: the next video of the same shape starts at once."""

    def __init__(self, config: SampleConfig):
        """`config` has the defaults of every video; its weights are those of the model."""
        self.config = config
        self._avatar: Avatar = open_avatar(config, read_loras(config.weights.lora), keep=True)

    def video(
        self, image: Picture, audio: Recording, *, rate: int | None = None, tell: Tell | None = None, **options: Any
    ) -> "Video":
        """The video of a picture that speaks a recording; it is made when it is iterated over or saved.

        `rate` is the samples a second of a recording given as an array. `tell` is a listener to progress
        (`sampling.progress`), by default progress bars. `options` are those of `sample.py` that say what is made:
        prompt, seed, size, steps, guidance, windows and so on. Raises Mistake for inputs and options of no use.
        """
        config = configure(self.config, options, ("inputs", "frame", "denoising"))
        sound = _sound_file(audio, rate)
        inputs = config.inputs
        path, data = (sound, None) if isinstance(sound, Path) else (Path("audio"), sound)
        job = Job(
            picture=_picture(image), sound=media.SoundFile(path, data, excerpt(inputs)),
            prompt=inputs.prompt, negative_prompt=inputs.negative_prompt, seed=inputs.seed,
            frame=config.frame, denoising=config.denoising,
        )  # fmt: skip
        return Video(job, self._avatar, sound, tell)


class Video:
    """A video that is made when it is asked for. What was denoised is kept: a second time it is only decoded.

    Iterating gives blocks of finished frames, uint8 [n, H, W, 3], in memory that does not grow with the length.
    """

    def __init__(self, job: Job, avatar: Avatar, sound: Path | bytes, tell: Tell | None):
        self._job, self._avatar, self._sound, self._tell = job, avatar, sound, tell
        self._latents: list[np.ndarray] = []

    def __len__(self) -> int:
        """Number of frames."""
        return self._job.known.frames

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self._job.frame.fps

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "n H W 3"]]:
        with Bars() as bars:
            yield from frames(self._prepared(), self._avatar, tell=self._listener(bars))

    def save(self, path: str | Path, *, crf: int = 18) -> Path:
        """Write the video with its sound as MP4, whole or not at all; returns the path. Raises Mistake."""
        path = Path(path)
        given = self._sound if isinstance(self._sound, Path) else None
        check_output(path, inputs=[given])
        with Bars() as bars, self._job.sound.open() as sound:
            write(path, self._prepared(), self._avatar, sound=sound, crf=crf, tell=self._listener(bars))
        return path

    def _prepared(self) -> Job:
        """The job, with its latents where they are all finished."""
        if sum(map(len, self._latents)) < self._job.known.windows.frames:
            self._latents = []
            return self._job
        return dataclasses.replace(self._job, latents=np.concatenate(self._latents))

    def _listener(self, bars: Bars) -> Tell:
        show = self._tell or bars

        def tell(event: Event) -> None:
            if isinstance(event, Finished):
                self._latents.append(event.z)
            show(event)

        return tell


def configure(config: SampleConfig, options: dict[str, Any], groups: Sequence[str]) -> SampleConfig:
    """The config with options changed, by their names on the command line, types checked as in a file.

    Raises Mistake for a name that none of these groups has, and for a value of another type or out of its range.
    """
    options, changed = dict(options), {}
    for group in groups:
        value = getattr(config, group)
        plain = to_json(value)
        if _fill(plain, value, options):
            changed[group] = from_json(type(value), plain, file="options")
    if options:
        unknown, known = next(iter(options)), [name for group in groups for name in names(getattr(config, group))]
        near = nearest(unknown, known)
        raise Mistake(f"{unknown} is not an option here; " + (f"did you mean {near}?" if near else ", ".join(known)))
    return dataclasses.replace(config, **changed)


def _fill(plain: dict[str, Any], config: Any, options: dict[str, Any]) -> bool:
    """Move the options that a config has into its plain values; whether there were any."""
    found = False
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if dataclasses.is_dataclass(value):
            found |= _fill(plain[each.name], value, options)
        elif each.name in options:
            given = options.pop(each.name)
            plain[each.name] = to_json(given.item() if isinstance(given, np.generic) else given)
            found = True
    return found


def _picture(image: Picture) -> Image.Image:
    if isinstance(image, (str, Path)):
        check_file(Path(image))
        return media.read_picture(Path(image))
    if isinstance(image, Image.Image):
        return media.as_picture(image, "image")
    pixels = np.asarray(image)
    if pixels.ndim not in (2, 3) or pixels.ndim == 3 and pixels.shape[2] not in (3, 4) or not pixels.size:
        raise Mistake(f"image has shape {pixels.shape}; pixels are [H, W], [H, W, 3] or [H, W, 4]")
    if np.issubdtype(pixels.dtype, np.floating):
        if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
            raise Mistake("image has floating pixels outside 0..1; divide by 255, or give uint8")
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise Mistake(f"image has pixels of type {pixels.dtype}; uint8, or floating 0..1 are needed")
    return media.as_picture(Image.fromarray(pixels), "image")


def _sound_file(audio: Recording, rate: int | None) -> Path | bytes:
    """A recording as a file, or as the content of one: a sound in memory is read and checked as a file is."""
    if isinstance(audio, (str, Path)):
        check_file(Path(audio))
        return Path(audio)
    samples = np.asarray(audio)
    if rate is None or rate < 1:
        raise Mistake("audio is an array, so rate is needed: its samples a second")
    if samples.ndim not in (1, 2) or not samples.size:
        raise Mistake(f"audio has shape {samples.shape}; samples are [S] or [S, channels]")
    if np.issubdtype(samples.dtype, np.integer):
        low, high = np.iinfo(samples.dtype).min, np.iinfo(samples.dtype).max
        samples = (samples - (low + high + 1) / 2) / ((high - low + 1) / 2)
    content = io.BytesIO()
    wavfile.write(content, int(rate), samples.astype(np.float32))
    return content.getvalue()
