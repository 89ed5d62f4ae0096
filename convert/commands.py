"""`python -m convert`: PyTorch weights in, and a look at what there is."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stableavatar_jax.errors import Mistake

from . import parts
from .importing import ImportFailed, import_part
from .inspecting import describe, verify
from .packing import pack
from .parts import PartName

ABOUT = """Bring published PyTorch weights into a model directory, one part at a time.

python -m convert import --part vae --source Wan2.1_VAE.pth --output models

Then the other parts (dit, umt5, clip_vision, wav2vec2) into the same directory, and at the end:

python -m convert verify models

It reads .pth, .pt and .bin of PyTorch and .safetensors, single or sharded, and needs no PyTorch."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """Bring one part's PyTorch weights into a model directory."""

    part: PartName
    """Which part the weights are of."""
    source: Path
    """Weight file, or a folder of shards."""
    output: Path
    """Model directory; made where there is none, added to where there is one."""
    config: Path | None = None
    """Preset with the model's sizes, such as configs/avatar_1b.py; else the directory's config.json, else 1.3B's."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Dtype on disk; else the file's own where all of it is of one 16-bit dtype, else float32."""
    tokenizer: Path | None = None
    """With --part umt5: its tokenizer.json; else the one beside the weights."""
    key: str | None = None
    """Where a PyTorch file holds several sets of weights: the key of the one to take."""
    overwrite: bool = False
    """Replace the part where it is there already."""

    def run(self) -> bool:
        """Import, and print what was passed over."""
        report = import_part(
            self.part, self.source, self.output, preset=self.config, dtype=self.dtype, tokenizer=self.tokenizer,
            key=self.key, overwrite=self.overwrite,
        )  # fmt: skip
        print(report)
        return True


@dataclass(frozen=True)
class Inspect:
    """List a weight file's tensors, and say which part it looks like."""

    source: tyro.conf.Positional[Path]
    """Weight file, or a folder of shards."""
    key: str | None = None
    """Where a PyTorch file holds several sets of weights: the key of the one to look at."""

    def run(self) -> bool:
        """Print the list."""
        for line in describe(self.source, self.key):
            print(line)
        return True


@dataclass(frozen=True)
class Verify:
    """Check a model directory: every part is as config.json says, and all values are finite."""

    folder: tyro.conf.Positional[Path]
    """Model directory."""

    def run(self) -> bool:
        """Print a line for every part; True if all are whole."""
        whole = True
        for good, line in verify(self.folder):
            print(f"{'good' if good else 'BAD '} {line}", flush=True)
            whole = whole and good
        return whole


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Write parts of a model directory as one safetensors file each, for models small enough to be shipped."""

    checkpoint: Path
    """Model directory to take them from."""
    output: Path
    """Model directory to write; made where there is none, added to where there is one."""
    parts: tuple[PartName, ...] = parts.NAMES
    """Which parts."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Dtype on disk."""
    overwrite: bool = False
    """Replace files that are there already."""

    def run(self) -> bool:
        """Print the files as they are written."""
        for file in pack(self.checkpoint, self.output, self.parts, self.dtype, self.overwrite):
            print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
        return True


Command = (
    Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Pack, tyro.conf.subcommand("pack")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all went well, 1 with one screen on stderr if not."""
    command = tyro.cli(Command, args=argv, prog="python -m convert", description=ABOUT)  # type: ignore[call-overload]
    try:
        return 0 if command.run() else 1
    except (Mistake, ImportFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 1


