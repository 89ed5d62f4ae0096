"""Train a part of the model, or go on with a run: `python train.py --help`, `python train.py --part vae --help`."""

import contextlib
import importlib
import sys
from pathlib import Path
from typing import Any

import jax

from stableavatar_jax.commands import parse
from stableavatar_jax.errors import Mistake
from stableavatar_jax.options import take
from stableavatar_jax.training import loop, run
from stableavatar_jax.training.config import RunConfig

PARTS = ("dit", "vae", "wav2vec2", "text_image")
"""What `--part` can name: modules of `stableavatar_jax.training`, each with its `Config`, `prepare`, `open_data`,
`make_validate` and `export`. They are imported by name: a machine that trains one may lack what another needs."""


def main(argv: list[str] | None = None) -> int:
    """Train, export or compile, as the options say; 0 when the run is complete, 1 on an error, 143 when stopped."""
    rest = list(sys.argv[1:] if argv is None else argv)
    try:
        part = module(take(rest, "--part") or "dit")
    except Mistake as error:
        print(error, file=sys.stderr)
        return 2
    config = parse(part.Config, rest)
    compile_only = getattr(config, "compile_only", False)
    if compile_only:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", config.devices)
    if config.distributed:
        jax.distributed.initialize()
    try:
        if compile_only:
            return memory(part, config)
        return export(part, config, config.export) if config.export else train(part, config)
    except (Mistake, ValueError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def module(part: str) -> Any:
    """The module that trains a part; raises Mistake."""
    if part not in PARTS:
        raise Mistake(f"--part {part}: one of {', '.join(PARTS)} is needed")
    return importlib.import_module(f"stableavatar_jax.training.parts.{part}")


def train(part: Any, config: RunConfig) -> int:
    """Train from where the run stands to its last step."""
    hosts = {"host": jax.process_index(), "hosts": jax.process_count()}
    with contextlib.closing(part.open_data(config, **hosts)) as batches:
        prepared = part.prepare(run.settle(config))
        validate = part.make_validate(prepared) if config.validate_every else None
        step = int(loop.train(prepared, batches, validate=validate).step)
    print(f"{config.run_dir}: {step} of {config.steps} steps are done and saved", file=sys.stderr)
    return 0 if step >= config.steps else 143


def export(part: Any, config: RunConfig, output: Path) -> int:
    """Write the run's best weights into a model directory, and a LoRA by the release's names beside them."""
    step, lora = part.export(run.settle(config), output)
    if lora:
        from stableavatar_jax.weights.lora import save_lora

        save_lora(output / "lora.safetensors", lora)
    print(f"{output}: the weights of step {step}")
    return 0


def memory(part: Any, config: Any) -> int:
    """Compile the step for virtual devices and print what it takes on each."""
    sizes = part.compiled_memory(config)
    frames, height, width = config.video
    print(f"{config.train}, {frames} frames of {height}x{width}, batch {config.batch}, remat {config.remat}, on "
          f"{config.devices} devices, each: " + ", ".join(f"{name} {size:.2f} GiB" for name, size in sizes.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
