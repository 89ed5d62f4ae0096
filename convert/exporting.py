"""Taking weights out of a model directory: files and folders that PyTorch programs load."""

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import jax.numpy as jnp

from stableavatar_jax.checkpoint import check_params
from stableavatar_jax.config import FILE, read_config
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.directory import open_part
from stableavatar_jax.weights.formats.files import BESIDE
from stableavatar_jax.weights.formats.pth_writer import write_pth
from stableavatar_jax.weights.formats.safetensors import write_safetensors
from stableavatar_jax.weights.formats.sharded import FORMAT, write_sharded
from stableavatar_jax.weights.formats.tensors import LazyTensor
from stableavatar_jax.weights.lora import read_lora
from stableavatar_jax.weights.lora_writer import save_lora
from stableavatar_jax.weights.names.dit import is_of_sound
from stableavatar_jax.whole import check_output, whole
from stableavatar_jax.words import count

from . import card, parts
from .importing import TOKENIZER
from .layouts import Form, form
from .options import Dtype, Layout, PartName
from .record import hashed, part_files, recorded

PYTORCH = (".pt", ".pth", ".bin")


def export_part(
    name: PartName, source: Path, output: Path, layout: Layout, dtype: Dtype | None, shard_size: int, overwrite: bool
) -> str:
    """Write a part of the model directory `source` for other programs, and say in a line what was written.

    An `output` with the suffix of a weight file becomes that file, any other a folder with shards of at most
    `shard_size` bytes. A model card lies in the folder (README.md), or beside the file (FILE.md). Tensors that a file
    may lack are left out where they are zero throughout. Raises Mistake where the part is missing, does not fit the
    directory's config.json, or has no such layout.
    """
    if shard_size < 1:
        raise Mistake(f"--shard-size {shard_size / 1e9:g}: a shard has more than 0 GB")
    with hashed(part_files(source / name)) as sources:  # also while the shapes are worked out, which takes a second
        part = parts.part(name, read_config(source, AvatarConfig))
        one = form(name, layout, part.config)
        check_params(source / name, part.abstract)
        tensors = {
            key: tensor.cast(dtype) if dtype and jnp.issubdtype(tensor.dtype, jnp.floating) else tensor
            for key, tensor in rules.exported(one.naming, part.config, open_part(source / name)).items()
            if not (rules.matches(key, one.naming.optional) and not tensor.read().any())
        }
        is_file = output.suffix in (*PYTORCH, ".safetensors")
        beside = output.with_name(f"{output.name}.md")
        check_export(output, source, overwrite, folder=not is_file)
        if is_file:
            check_export(beside, source, overwrite, folder=False)
        facts = {"command": "export", "part": name, "names": one.naming.name, "dtype": dtype or "as stored"}
        folder, result = (output.parent, output.name) if is_file else (output, name)
        size = sum(tensor.nbytes for tensor in tensors.values())
        about = card.model_card(name, layout, source, _facts(tensors, one))
        with whole(output, folder=not is_file, replace=overwrite, inputs=[source], space=size) as partial:
            made = folder if is_file else partial
            with recorded(made, result, sources, tensors, **facts) as tell:
                if output.suffix in PYTORCH:
                    write_pth(partial, tensors, tell)
                elif is_file:
                    write_safetensors(partial, tensors, FORMAT, tell)
                else:
                    partial.mkdir(exist_ok=True)
                    _write_folder(partial, tensors, one, shard_size, tell)
                    if name == "umt5" and (source / TOKENIZER).is_file():
                        shutil.copyfile(source / TOKENIZER, partial / TOKENIZER)
            with whole(beside) if is_file else contextlib.nullcontext(partial / card.FILE) as readme:
                readme.write_text(about, encoding="utf-8")
        return f"{output}: {len(tensors)} tensors, {size / 1e9:.2f} GB, named as in {one.naming.name}"


def export_lora(source: Path, output: Path, layout: Layout, overwrite: bool) -> str:
    """Write a LoRA file of any family under the names of another, and say in a line what was written."""
    if layout == "transformers" or output.suffix != ".safetensors":
        raise Mistake(f"{output}: a LoRA is written as .safetensors, by any layout but transformers")
    lora = read_lora(source)
    check_export(output, source, overwrite, folder=False)
    save_lora(output, lora.tree, "release" if layout == "original" else layout)
    skipped = "".join(f"\nskipped {line}" for line in lora.skipped)
    return f"{output}: {count(len(lora.ranks), 'module')}, from names of {lora.family}{skipped}"


def check_export(output: Path, source: Path, overwrite: bool, *, folder: bool) -> None:
    """Raise Mistake where a result may not be written to `output`."""
    if output.is_file() and not overwrite:
        raise Mistake(f"{output} exists already; pass --overwrite to replace it")
    check_output(output, folder=folder, replace=overwrite, inputs=[source])


def _facts(tensors: Mapping[str, LazyTensor], one: Form) -> str:
    """A sentence about what is written."""
    count, dtypes = sum(x.size for x in tensors.values()), sorted({str(x.dtype) for x in tensors.values()})
    return (
        f"{count / 1e6:,.1f} M parameters ({', '.join(dtypes)}) in {len(tensors)} tensors, named as in"
        f" {one.naming.name}; written by `python -m convert export` of stableavatar-jax."
    )


def _write_folder(
    folder: Path, tensors: dict[str, LazyTensor], one: Form, shard_size: int, tell: Callable[[int], None]
) -> None:
    """Shards, index and config.json; where diffusers reads the folder, sound in a file of its own beside them."""
    rest = dict(tensors)
    if one.about and one.about.get("_class_name") == "WanTransformer3DModel":
        sound = {name: rest.pop(name) for name in tensors if is_of_sound(name)}
        write_safetensors(folder / BESIDE, sound, FORMAT, tell)
    write_sharded(folder, one.stem, rest, shard_size, tell)
    if one.about:
        (folder / FILE).write_text(json.dumps(one.about, indent=2) + "\n")
