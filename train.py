"""Train the DiT on precomputed records or clips, or go on with a run: `python train.py --help`."""

import contextlib
import sys
from pathlib import Path

import jax

from stableavatar_jax.config import ConfigError, parse
from stableavatar_jax.data.pipeline import CheckpointableIterator, open_records
from stableavatar_jax.training import loop, run
from stableavatar_jax.training.config import TrainConfig
from stableavatar_jax.training.saving import TrainingError


def main(argv: list[str] | None = None) -> int:
    """Train, export or compile, as the options say; 0 when the run is complete, 1 on an error, 143 when stopped."""
    config = parse(TrainConfig, argv)
    if config.compile_only:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", config.devices)
    if config.distributed:
        jax.distributed.initialize()
    try:
        if config.compile_only:
            return compile_only(config)
        return export(config, config.export) if config.export else train(config)
    except (TrainingError, ConfigError, ValueError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def train(config: TrainConfig) -> int:
    """Train from where the run stands to its last step."""
    with contextlib.closing(open_data(config)) as batches:
        prepared = run.prepare(run.settle(config))
        step = int(loop.train(prepared, batches, validate=validation(prepared)).step)
    print(f"{config.run_dir}: {step} of {config.steps} steps are done and saved", file=sys.stderr)
    return 0 if step >= config.steps else 143


def validation(prepared: run.Run) -> loop.Validate | None:
    """What makes the validation videos, where they were asked for."""
    if not prepared.config.validate_every:
        return None
    from stableavatar_jax.training.validation import make_validate  # a machine that only trains may lack what it needs

    return make_validate(prepared)


def open_data(config: TrainConfig) -> CheckpointableIterator:
    """This process's rows of every batch: from records, or from clips that are encoded on the way."""
    hosts = {"host": jax.process_index(), "hosts": jax.process_count()}
    if config.data and not config.clips:
        return open_records(config.data, batch=config.batch, seed=config.seed, **hosts)
    if config.clips and not config.data:
        from stableavatar_jax.training.encode import open_clips  # needs PyAV and more, which records do not

        return open_clips(config.clips, config, **hosts)
    raise ConfigError(
        "one of --data RECORDS (made by `python -m stableavatar_jax.data precompute`) and --clips CLIPS (made by "
        f"`python -m stableavatar_jax.data build`) is needed, {'both are' if config.data else 'neither is'} given"
    )


def export(config: TrainConfig, output: Path) -> int:
    """Write the run's best weights as a model directory, and a LoRA by the release's names beside them."""
    config = run.settle(config)
    step, lora = run.export(config, output)
    if lora:
        from convert.lora import save_lora

        save_lora(output / "lora.safetensors", lora)
    print(f"{output}: the weights of step {step}")
    return 0


def compile_only(config: TrainConfig) -> int:
    """Compile the step for virtual devices and print what it takes on each."""
    memory = run.compiled_memory(config)
    frames, height, width = config.video
    print(f"{config.train}, {frames} frames of {height}x{width}, batch {config.batch}, remat {config.remat}, on "
          f"{config.devices} devices, each: " + ", ".join(f"{name} {size:.2f} GiB" for name, size in memory.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
