"""Bringing PyTorch weights into a model directory: one part, or all that a release folder holds."""

import contextlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from stableavatar_jax.config import FILE, read_config, to_json, write_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import load_preset
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.sampling.defaults import DEFAULTS_FILE, SamplingDefaults, write_defaults
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.directory import check_part, has_part, write_part
from stableavatar_jax.weights.formats.files import open_tensors, weight_files
from stableavatar_jax.weights.formats.tensors import LazyTensor
from stableavatar_jax.weights.scaled import rescaled
from stableavatar_jax.whole import copy

from . import parts
from .options import PARTS, Dtype, PartName
from .record import Sources, hashed, recorded
from .releases import find_parts, find_tokenizer_in

TOKENIZER = "tokenizer.json"
# Beside the weights, or where the released folders keep it.
TOKENIZER_PLACES = (TOKENIZER, f"google/umt5-xxl/{TOKENIZER}", f"../tokenizer/{TOKENIZER}")
HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
# Where a diffusers folder (the one with model_index.json) keeps a part.
DIFFUSERS = {"dit": "transformer", "vae": "vae", "umt5": "text_encoder", "clip_vision": "image_encoder"}
PATCHES = "patch_embedding.weight"


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How weights are to be brought in."""

    preset: Path | None = None
    """Preset with the model's sizes; else the model directory's own, else the known model that fits."""
    dtype: Dtype | None = None
    """Dtype on disk; else the weights' own where all are of one 16-bit dtype, else float32."""
    tokenizer: Path | None = None
    """UMT5's tokenizer.json; else the one beside the weights."""
    key: str | None = None
    """Which of several sets of weights in a PyTorch file."""
    overwrite: bool = False
    """Whether a part that is there already is replaced."""


def import_part(name: PartName, source: Path, output: Path, wishes: Wishes) -> str:
    """Write the part `output/NAME` from the weights at `source`, and say in a few lines what was done.

    Every tensor of the source fills its place or Mistake lists what does not match; then nothing is left at `output`.
    A layer is in memory at a time.
    """
    place = _inside(source, name)
    check_part(output / name, 0, wishes.overwrite, [place])
    with hashed(weight_files(place)) as sources:  # also while the shapes are worked out, which takes a second
        return _import_part(name, source, output, wishes, place, sources)


def _import_part(name: PartName, source: Path, output: Path, wishes: Wishes, place: Path, sources: Sources) -> str:
    tensors = rescaled(open_tensors(place, wishes.key))
    model = settle_config(output, wishes.preset, tensors)
    needs_tokenizer = name == "umt5" and model.tokenizer == "file"
    found = find_tokenizer(place, wishes.tokenizer) if needs_tokenizer else None
    part = parts.part(name, model)
    stored = np.dtype(wishes.dtype) if wishes.dtype else stored_dtype(tensors)
    try:
        naming = rules.choose(part.namings, part.config, tensors)
        tensors, notes = _padded(name, tensors, part)
        flat, report = rules.loaded(naming, part.config, tensors, part.abstract, dtype=stored, born=part.born)
    except Mistake as error:
        raise Mistake(f"{source}: {error}{_advice(name, tensors, wishes.preset)}") from None
    facts = {"command": "import", "names": naming.name, "dtype": str(stored), "ignored": list(report.ignored),
             "absent": list(report.absent), "born anew": list(report.fresh)}  # fmt: skip
    with _made(output):
        check_part(output / name, sum(tensor.nbytes for tensor in flat.values()), wishes.overwrite)
        with recorded(output, name, sources, flat, **facts) as tell:
            file = write_part(output / name, flat, tell)
        write_config(output, model)
        if name == "dit":
            write_sampling(output, model, wishes.preset)
        if found:
            copy(found, output / TOKENIZER)
    lines = [f"{file}: {_size(flat)} in {stored}, from {len(tensors)} tensors named as in {naming.name}", *notes]
    lines += [f"ignored, no place in the model: {tensor}" for tensor in report.ignored]
    lines += [f"absent from the file, set to zero: {line}" for line in _gathered(report.absent)]
    lines += [f"absent from the file, initialised: {path}" for path in report.fresh]
    if report.fresh:
        lines.append("the initialised modules have learned nothing yet: train the model before it makes videos")
    if needs_tokenizer and not (output / TOKENIZER).exists():
        lines.append(f"no {TOKENIZER} lies beside {source}: copy it to {output / TOKENIZER}, prompts need it")
    return "\n".join(lines)


def import_release(source: Path, output: Path, wishes: Wishes) -> Iterator[str]:
    """Bring in every part that a folder of released files holds, and say what was done with each file.

    Files are recognised by their tensors' names. A part that is there already is kept, unless it is to be replaced.
    Raises Mistake where two files hold one part, or none holds any.
    """
    asked = load_preset(wishes.preset, AvatarConfig) if wishes.preset else None
    there = () if wishes.overwrite else [name for name in PARTS if has_part(output / name)]
    found = find_parts(source, {str(wishes.preset): asked} if asked else None, there)
    if not found:
        raise Mistake.at(source, "no weights of the avatar in this folder", "give the folder of the released files")
    for name in found.keys() - there:
        check_part(output / name, 0, wishes.overwrite, [found[name]])
    for name in PARTS:
        if name not in found:
            yield f"{name}: not found in {source}"
        elif name in there:
            yield f"{name}: there already, {found[name]} is passed over (--overwrite replaces it)"
        else:
            tokenizer = wishes.tokenizer or find_tokenizer_in(source) if name == "umt5" else None
            yield import_part(name, found[name], output, replace(wishes, tokenizer=tokenizer))


def settle_config(output: Path, preset: Path | None, tensors: Mapping[str, LazyTensor]) -> Any:
    """The directory's AvatarConfig: what it says already, else the preset's, else the known model's the tensors fit.

    Raises Mistake where the preset and the directory disagree.
    """
    asked = load_preset(preset, AvatarConfig) if preset else None
    if (output / FILE).exists():
        held = read_config(output, AvatarConfig)
        if asked not in (None, held):
            raise Mistake(
                f"{output / FILE} and {preset} disagree: {_difference(to_json(held), to_json(asked))}; "
                "leave --config out, or import into another directory"
            )
        return held
    if asked is not None:
        return asked
    like = parts.nearest(tensors)
    return parts.KNOWN[like.model] if like else AvatarConfig()


def write_sampling(output: Path, model: Any, preset: Path | str | None) -> None:
    """Write into a model directory how the preset of its sizes samples, where that is not as by default; what is there
    stays. (The 14B model knows no sound as silence.)
    """
    told: Any = load_preset(preset or "avatar_14b")
    ours = SampleConfig()
    differs = isinstance(told, SampleConfig) and (told.frame, told.denoising) != (ours.frame, ours.denoising)
    if differs and told.model == model and not (output / DEFAULTS_FILE).exists():
        write_defaults(output, SamplingDefaults(frame=told.frame, denoising=told.denoising))


def find_tokenizer(source: Path, given: Path | None) -> Path | None:
    """The tokenizer.json that was given or lies beside the weights; None where there is none."""
    folder = source if source.is_dir() else source.parent
    found = given or next((folder / place for place in TOKENIZER_PLACES if (folder / place).is_file()), None)
    if found is not None:
        try:
            model = json.loads(found.read_text()).get("model")
        except (OSError, ValueError, AttributeError):
            model = None
        if not model:
            raise Mistake.at(found, "no tokenizer (a JSON object with a `model`)", "give UMT5's tokenizer.json")
    return found


def stored_dtype(tensors: Mapping[str, LazyTensor]) -> np.dtype[Any]:
    """The 16-bit dtype that all floating tensors share, else float32."""
    found = {tensor.dtype for tensor in tensors.values() if tensor.dtype.kind not in "iub"}
    return found.pop() if len(found) == 1 and found <= set(HALVES) else np.dtype(np.float32)


def _inside(source: Path, name: str) -> Path:
    """Where a folder of diffusers (with model_index.json) keeps a part; else the source itself."""
    if not (source / "model_index.json").is_file():
        return source
    folder = source / DIFFUSERS.get(name, "")
    if name not in DIFFUSERS or not folder.is_dir():
        held = ", ".join(part for part, place in DIFFUSERS.items() if (source / place).is_dir())
        raise Mistake.at(source, f"this diffusers folder has no {name}", f"it has {held or 'no part of the avatar'}")
    return folder


def _padded(name: str, tensors: Mapping[str, LazyTensor], part: parts.Part) -> tuple[dict[str, LazyTensor], list[str]]:
    """A transformer with fewer input channels than ours (text-to-video has 16), padded with channels that weigh 0."""
    patches = tensors.get(PATCHES)
    if name != "dit" or patches is None or len(patches.shape) != 5 or patches.shape[1] >= part.config.in_channels:
        return dict(tensors), []
    have, want = patches.shape[1], part.config.in_channels
    widths = [(0, want - have if axis == 1 else 0) for axis in range(5)]
    shape = (patches.shape[0], want, *patches.shape[2:])
    wide = replace(patches, shape=shape, load=lambda: np.pad(patches.read(), widths), row=None)
    return {**tensors, PATCHES: wide}, [f"{PATCHES}: {have} input channels, padded with zeros to {want}"]


@contextlib.contextmanager
def _made(output: Path) -> Iterator[None]:
    """Where the work fails, an output folder that was not there before goes again."""
    new = not output.exists()
    try:
        yield
    except BaseException:
        if new:
            shutil.rmtree(output, ignore_errors=True)
        raise


def _advice(name: str, tensors: Mapping[str, LazyTensor], preset: Path | None) -> str:
    """What a mismatch may come from."""
    like = parts.nearest(tensors)
    if like and like.part.name != name:
        return f"\nthe file looks like {like.part.name}: try --part {like.part.name}"
    return "" if preset else "\nif the model is of another size, name its preset: --config configs/NAME.py"


def _gathered(names: Iterable[str]) -> list[str]:
    """Names with a star for the layer's number, and how many there are of each."""
    counts = Counter(re.sub(r"\.\d+\.", ".*.", name) for name in names)
    return [name if "*" not in name else f"{name} ({count} tensors)" for name, count in counts.items()]


def _difference(held: Any, asked: Any, key: str = "") -> str:
    """The first key in which two configs differ, and both values."""
    if isinstance(held, dict):
        name = next(name for name in held if held[name] != asked[name])
        return _difference(held[name], asked[name], f"{key}.{name}" if key else name)
    return f"{key} is {held} in the one, {asked} in the other"


def _size(tensors: Mapping[str, LazyTensor]) -> str:
    count, size = (sum(getattr(x, of) for x in tensors.values()) for of in ("size", "nbytes"))
    return f"{count / 1e6:,.1f} M parameters, {size / 1e9:.2f} GB"
