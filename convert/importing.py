"""Bringing one part's PyTorch weights into a model directory, in little memory."""

import contextlib
import dataclasses
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from tqdm import tqdm

from stableavatar_jax.checkpoint import save_params
from stableavatar_jax.config import FILE, read_config, to_json, write_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import load_preset
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.formats.files import LazyTensor, open_tensors

from . import parts

TOKENIZER = "tokenizer.json"
# Beside the weights, or where the released folders keep it.
TOKENIZER_PLACES = (TOKENIZER, f"google/umt5-xxl/{TOKENIZER}", f"../tokenizer/{TOKENIZER}")
HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


class ImportFailed(ValueError):
    """An import was refused before anything was written."""


def import_part(
    name: parts.PartName,
    source: Path,
    output: Path,
    *,
    preset: Path | None = None,
    dtype: str | None = None,
    tokenizer: Path | None = None,
    key: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write `output/NAME` from the weights at `source`, and say in a few lines what was done.

    Every tensor of the source fills its place or the import fails and lists what does not match; then nothing is left
    at `output`. Without `dtype`, weights of one 16-bit dtype keep it and all others become float32. Layers that are
    stacked are put together in files beside the result, one tensor at a time, so memory does not grow with the part.
    """
    if (output / name).exists() and not overwrite:
        raise ImportFailed(f"{output / name} exists already; pass --overwrite to replace it")
    avatar = settle_config(output, preset)
    needs_tokenizer = name == "umt5" and avatar.tokenizer == "file"
    found = find_tokenizer(source, tokenizer) if needs_tokenizer else None
    tensors = open_tensors(source, key)
    part = parts.part(name, avatar)
    stored = np.dtype(dtype) if dtype else stored_dtype(tensors)
    try:
        naming = rules.choose(part.namings, part.config, tensors)
        with _workplace(output) as scratch:
            _require_space(scratch, part.abstract, stored)
            with _progress(tensors, naming.rules(part.config)) as counted:
                empty = lambda path, shape, dtype: _on_disk(scratch, path, shape, dtype)  # noqa: E731
                params, report = rules.load(
                    naming, part.config, counted, part.abstract, dtype=stored, empty=empty, born=part.born
                )
            write_config(output, avatar)
            if found:
                shutil.copyfile(found, output / TOKENIZER)
            save_params(output / name, params, overwrite=overwrite)
    except Mistake as error:
        raise ImportFailed(f"{source}: {error}{_advice(name, set(tensors), avatar, preset)}") from None
    lines = [f"{output / name}: {_size(params)} in {stored}, from {len(tensors)} tensors named as in {naming.name}"]
    lines += [f"ignored, no place in the model: {tensor}" for tensor in report.ignored]
    lines += [f"absent from the file, set to zero: {tensor}" for tensor in report.absent]
    lines += [f"absent from the file, born anew: {path}" for path in report.fresh]
    if needs_tokenizer and not (output / TOKENIZER).exists():
        lines.append(f"no {TOKENIZER} lies beside {source}: copy it to {output / TOKENIZER}, prompts need it")
    return "\n".join(lines)


def settle_config(output: Path, preset: Path | None) -> Any:
    """The directory's AvatarConfig: what it says already, else the preset's, else the released sizes.

    Raises Mistake where the preset and the directory disagree.
    """
    cls = AvatarConfig
    asked = load_preset(preset, cls) if preset else None
    if not (output / FILE).exists():
        return asked or cls()
    held = read_config(output, cls)
    if asked not in (None, held):
        raise Mistake(
            f"{output / FILE} and {preset} disagree: {_difference(to_json(held), to_json(asked))}; "
            "leave --config out, or import into another directory"
        )
    return held


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


@contextlib.contextmanager
def _workplace(output: Path) -> Iterator[Path]:
    """A scratch folder in the output folder. Where the work fails, an output folder that was not there goes again."""
    new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".import-", dir=output) as scratch:
            yield Path(scratch)
    except BaseException:
        if new:
            shutil.rmtree(output, ignore_errors=True)
        raise


@contextlib.contextmanager
def _progress(tensors: Mapping[str, LazyTensor], table: list[rules.Rule]) -> Iterator[Mapping[str, Any]]:
    """The same tensors, moving a progress bar as they are read."""
    total = sum(rule.source in tensors for rule in table)
    with tqdm(total=total, unit=" tensors", desc="reading", disable=None) as bar:

        def counted(tensor: LazyTensor) -> LazyTensor:
            def read() -> np.ndarray:
                bar.update()
                return tensor.read()

            return dataclasses.replace(tensor, read=read)

        yield {name: counted(tensor) for name, tensor in tensors.items()}


def _on_disk(scratch: Path, path: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.memmap(scratch / path.replace("/", "."), dtype, "w+", shape=shape)


def _require_space(scratch: Path, abstract: Mapping[str, Any], dtype: np.dtype[Any]) -> None:
    """Weights are on disk twice for a while: put together in the scratch folder, and in the result."""
    need = 2 * dtype.itemsize * sum(math.prod(leaf.shape) for leaf in rules.flatten(abstract).values())
    free = shutil.disk_usage(scratch).free
    if need > free:
        raise ImportFailed(f"{scratch.parent} has {free / 1e9:.1f} GB free, {need / 1e9:.1f} GB are needed; make room")


def _advice(name: str, tensors: set[str], avatar: Any, preset: Path | None) -> str:
    """What a mismatch may come from."""
    guess = parts.guess(tensors, avatar)
    if guess and guess.name != name:
        return f"\nthe file looks like {guess.name}: try --part {guess.name}"
    return "" if preset else "\nif the model is of another size, name its preset: --config configs/NAME.py"


def _difference(held: Any, asked: Any, key: str = "") -> str:
    """The first key in which two configs differ, and both values."""
    if isinstance(held, dict):
        name = next(name for name in held if held[name] != asked[name])
        return _difference(held[name], asked[name], f"{key}.{name}" if key else name)
    return f"{key} is {held} in the one, {asked} in the other"


def _size(params: Mapping[str, Any]) -> str:
    arrays = rules.flatten(params).values()
    count, size = sum(array.size for array in arrays), sum(array.nbytes for array in arrays)
    return f"{count / 1e6:,.1f} M parameters, {size / 1e9:.2f} GB"
