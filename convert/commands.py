"""The commands: options, and a `run()` that imports what it needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from stableavatar_jax import commands
from stableavatar_jax.errors import Mistake
from stableavatar_jax.inputs import check_directory, check_there

from .options import PARTS, Dtype, Layout, PartName

ABOUT = """Bring published PyTorch weights into a model directory, and take them out again. It needs no PyTorch.

python -m convert import --source RELEASE --output models
python -m convert verify models

RELEASE is a folder with the released files, from which every part is taken; --part takes one part from one file:

python -m convert import --part vae --source Wan2.1_VAE.pth --output models

It reads .pth, .pt and .bin of PyTorch and .safetensors, single or sharded."""
MAKE_ONE = "give a model directory: `python -m convert import` makes one"


@dataclass(frozen=True, kw_only=True)
class Import:
    """Bring PyTorch weights into a model directory: every part that a release folder holds, or one."""

    source: Path
    """Folder of the released files; with --part a weight file, or a folder of shards."""
    output: Path
    """Model directory to write; parts are added to one that exists."""
    part: PartName | None = None
    """The one part to import; without it every part in the folder is imported."""
    config: Path | None = None
    """Preset with the sizes, by name or path; by default those of the directory, or of the known model that fits."""
    dtype: Dtype | None = None
    """Dtype on disk; by default the file's own if all of it has one 16-bit dtype, else float32."""
    tokenizer: Path | None = None
    """UMT5's tokenizer.json; by default the one beside the weights."""
    key: str | None = None
    """Key of the weights to take, in a PyTorch file that holds several sets."""
    overwrite: bool = False
    """Replace parts that are there already."""

    def run(self) -> None:
        """Import, and print what was passed over."""
        check_there(self.source)
        from .importing import Wishes, import_part, import_release

        wishes = Wishes(
            preset=self.config, dtype=self.dtype, tokenizer=self.tokenizer, key=self.key, overwrite=self.overwrite
        )
        if self.part:
            print(import_part(self.part, self.source, self.output, wishes))
        else:
            for line in import_release(self.source, self.output, wishes):
                print(line, flush=True)


@dataclass(frozen=True, kw_only=True)
class Export:
    """Take one part out of a model directory for PyTorch programs, or write a LoRA under other programs' names."""

    part: PartName | Literal["lora"]
    """The part to export, or `lora` for a LoRA file."""
    source: Path
    """Model directory; with --part lora a LoRA file of any family."""
    output: Path
    """File to write (.pt, .pth or .safetensors); any other name becomes a folder with shards and index."""
    layout: Layout = "original"
    """Names to write: the release's (`original`), diffusers' (dit, vae) or transformers' (the other parts); for a LoRA
    also comfyui's, peft's (within ComfyUI) or kohya's."""
    dtype: Dtype | None = None
    """Dtype on disk; by default that of the model directory."""
    shard_size: float = 5.0
    """Size of the largest shard in a folder, in GB."""
    overwrite: bool = False
    """Replace what is there already."""

    def run(self) -> None:
        """Export, and print what was written."""
        check_there(self.source)
        from .exporting import export_lora, export_part

        if self.part == "lora":
            return print(export_lora(self.source, self.output, self.layout, self.overwrite))
        size = int(self.shard_size * 1e9)
        return print(export_part(self.part, self.source, self.output, self.layout, self.dtype, size, self.overwrite))


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Write a model directory with LoRAs added to its transformer."""

    lora: tuple[str, ...]
    """LoRA files of any family, each as PATH or PATH:SCALE."""
    source: Path
    """Model directory."""
    output: Path
    """Model directory to write."""
    dtype: Dtype | None = None
    """Dtype of the transformer on disk; by default the one it has."""
    overwrite: bool = False
    """Replace what is there already."""

    def run(self) -> None:
        """Merge, and print what was written."""
        check_there(self.source)
        from .merging import merge

        print(merge(self.lora, self.source, self.output, self.dtype, self.overwrite))


@dataclass(frozen=True)
class Compare:
    """Compare two sets of weights, tensor by tensor: files of any format, or model directories."""

    a: tyro.conf.Positional[Path]
    """Weight file, folder of shards, or model directory."""
    b: tyro.conf.Positional[Path]
    """Weight file, folder of shards, or model directory to compare it with."""
    tolerance: float | None = None
    """Largest difference of two values that passes; by default they must be equal to the bit, dtypes included."""
    config: Path | None = None
    """Preset with the model's sizes, by name or path; by default those of a model directory, or a known model."""
    lines: int = 20
    """Largest number of differences to print."""

    def run(self) -> int:
        """Print the differences, worst first; status 1 unless there is none to speak of."""
        check_there(self.a)
        check_there(self.b)
        if self.tolerance is not None and not self.tolerance >= 0:
            raise Mistake(f"--tolerance {self.tolerance:g}: the largest difference that passes is 0 or more")
        from .comparing import compare

        found = compare(self.a, self.b, self.config)
        different = [each for each in found if not each.equal]
        for each in different[: self.lines]:
            print(f"{each.name}: {each.line}")
        if len(different) > self.lines:
            print(f"... and {len(different) - self.lines} more")
        print(f"{len(found) - len(different)} of {len(found)} tensors are equal bit for bit")
        return int(any(each.worst > (self.tolerance or 0) or self.tolerance is None for each in different))


@dataclass(frozen=True)
class Inspect:
    """Say what a weight file or a model directory is: its part, size, dtypes, and what it lacks. No tensor is read."""

    source: tyro.conf.Positional[Path]
    """Weight file, folder of shards, or model directory."""
    key: str | None = None
    """Key of the weights to inspect, in a PyTorch file that holds several sets."""
    names: bool = False
    """List every tensor's name, dtype and shape as well."""
    config: Path | None = None
    """Preset to hold the weights against, by name or path; by default the known model that they are nearest to."""

    def run(self) -> None:
        """Print what is found."""
        check_there(self.source)
        from .inspecting import describe

        for line in describe(self.source, self.key, self.names, self.config):
            print(line)


@dataclass(frozen=True)
class Verify:
    """Check a model directory: every part is as config.json says, and all values are finite."""

    folder: tyro.conf.Positional[Path]
    """Model directory."""

    def run(self) -> int:
        """Print a line for every part; status 1 unless all are whole."""
        check_directory(self.folder, MAKE_ONE)
        from .inspecting import verify

        whole = True
        for good, line in verify(self.folder):
            print(f"{'good' if good else 'BAD '} {line}", flush=True)
            whole = whole and good
        return 0 if whole else 1


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Write parts of a model directory into another one, as one file each, in a dtype of choice."""

    checkpoint: Path
    """Model directory to take the parts from."""
    output: Path
    """Model directory to write; parts are added to one that exists."""
    parts: tuple[PartName, ...] = PARTS
    """The parts to write."""
    dtype: Dtype = "bfloat16"
    """Dtype on disk."""
    overwrite: bool = False
    """Replace parts that are there already."""

    def run(self) -> None:
        """Print the files as they are written."""
        check_directory(self.checkpoint, MAKE_ONE)
        from .packing import pack

        for file in pack(self.checkpoint, self.output, self.parts, self.dtype, self.overwrite):
            print(f"{file}: {file.stat().st_size / 1e6:.1f} MB", flush=True)


@dataclass(frozen=True, kw_only=True)
class Random:
    """Write a model directory with random weights, as a smoke test of every command; its videos show noise."""

    config: Path
    """Preset with the model's sizes, by name or path, such as tiny."""
    output: Path
    """Model directory to write; made where there is none."""
    parts: tuple[PartName, ...] = PARTS
    """The parts to write."""
    dtype: Dtype = "float32"
    """Dtype on disk."""
    seed: int = 0
    """Seed of the weights."""
    overwrite: bool = False
    """Replace parts that are there already."""

    def run(self) -> None:
        """Print the files as they are written."""
        from .packing import draw

        for file in draw(self.config, self.output, self.parts, self.dtype, self.seed, self.overwrite):
            print(f"{file}: {file.stat().st_size / 1e6:.1f} MB", flush=True)


COMMANDS = {
    "import": Import,
    "export": Export,
    "merge": Merge,
    "compare": Compare,
    "inspect": Inspect,
    "verify": Verify,
    "pack": Pack,
    "random": Random,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    return commands.main(COMMANDS, argv, about=ABOUT)
