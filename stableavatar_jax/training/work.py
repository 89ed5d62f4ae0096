"""What `train.py` does: train a part of the model, write its weights as a model directory, or compile its step."""

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax

from stableavatar_jax import hosts, sharding
from stableavatar_jax.compiling import keep_compiled
from stableavatar_jax.errors import Mistake, explained
from stableavatar_jax.locks import alone
from stableavatar_jax.training import defaults, loop
from stableavatar_jax.training import export as exports
from stableavatar_jax.training.config import RunConfig
from stableavatar_jax.training.directory import read_own, settle
from stableavatar_jax.training.logs import say
from stableavatar_jax.training.memory import bytes_each, check_memory
from stableavatar_jax.training.parts import distil, dit, text_image, vae, wav2vec2
from stableavatar_jax.training.parts.config import TrainConfig
from stableavatar_jax.training.parts.configs import CONFIGS
from stableavatar_jax.training.parts.part import Part
from stableavatar_jax.training.run import Run
from stableavatar_jax.training.saving import saved_steps
from stableavatar_jax.whole import check_folder
from stableavatar_jax.words import count, duration

PARTS: dict[str, Part] = {
    "dit": dit.DIT_PART,
    "vae": vae.VAE_PART,
    "wav2vec2": wav2vec2.WAV2VEC2_PART,
    "text_image": text_image.TEXT_IMAGE_PART,
    "distil": distil.DISTIL_PART,
}
"""What `--part` can name."""


def train(config: RunConfig) -> int:
    """Train from where the run stands to its last step; the exit status. Raises Mistake."""
    begun = time.perf_counter()
    if isinstance(config, TrainConfig) and config.compile_only:
        return compile_only(config)
    keep_compiled()
    hosts.start(config.distributed)
    part = PARTS[config.part]
    config = settle(config)
    part.check(config)
    check_folder(config.run_dir, inputs=inputs(config))
    run = part.prepare(config)
    if isinstance(config, TrainConfig):
        run = dataclasses.replace(run, sampling=defaults.of_data(config))
    check_memory(run.abstract, run.devices)
    check_folder(config.run_dir, space=space(run))
    say(describe(run))
    share, shares = sharding.share_of_rows(run.mesh)
    with one_run(config), contextlib.closing(part.open_data(config, host=share, hosts=shares)) as batches:
        validate = part.make_validate(run) if config.validate_every else None
        before = max(saved_steps(config.run_dir), default=0)
        step = int(loop.train(run, batches, validate=validate).step)
    say(ending(config, step, step - before, time.perf_counter() - begun))
    return 0 if step >= config.steps else 143


@contextlib.contextmanager
def one_run(config: RunConfig) -> Iterator[None]:
    """The run directory as this process's own; of several that work together the first one holds it.

    Folders above it are made for the lock, and go again where nothing came of the run.
    """
    if not hosts.is_first():
        yield
        return
    made = [folder for folder in config.run_dir.absolute().parents if not folder.exists()]
    with explained(config.run_dir):
        config.run_dir.absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        with alone(config.run_dir):
            yield
    finally:
        with contextlib.suppress(OSError):  # there is something in it
            for folder in made:
                folder.rmdir()


def inputs(config: RunConfig) -> list[Any]:
    """What a run reads, and may not write to."""
    return [getattr(config, name, None) for name in ("checkpoint", "clips", "data", "held_out")]


def space(run: Run) -> int:
    """Bytes that the checkpoints will take: those kept, one that is being written, and the frozen weights once."""
    state = run.abstract
    there = len(saved_steps(run.config.run_dir))
    each = size((state.params, state.optimizer, state.ema))
    return max(0, run.config.keep + 1 - there) * each + (0 if there else size(state.frozen))


def size(tree: Any) -> int:
    """Bytes of an abstract tree, over all devices."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def describe(run: Run) -> str:
    """Devices, mesh, parameters and memory of a run."""
    state, devices = run.abstract, run.devices
    values = lambda tree: sum(math.prod(x.shape) for x in jax.tree.leaves(tree))  # noqa: E731
    trained, frozen = values(state.params), values(state.frozen)
    mesh = f", mesh {axes}" if (axes := sharding.told(run.mesh)) else ""
    return (
        f"{run.config.part}: {(trained + frozen) / 1e6:.1f} M parameters, {trained / 1e6:.1f} M of them trained; "
        f"{len(devices)} x {devices[0].device_kind}{mesh}; {bytes_each(state) / 1e9:.2f} GB of state on each"
    )


def ending(config: RunConfig, step: int, done: int, seconds: float) -> str:
    """The last line of a run."""
    now = f", {done} of them in {duration(seconds)}, {done / seconds:.3g} steps a second" if done > 0 else " already"
    told = f"{config.run_dir}: {count(step, 'step')} done and saved{now}"
    if step > config.steps:
        told += f"; no more than {config.steps} were asked for"
    elif step < config.steps:
        told += f"; stopped before {config.steps}, the same command goes on"
    return f"{told}. `python train.py --run-dir {config.run_dir} --export DIR` makes a model directory"


def export(options: RunConfig) -> int:
    """Write a run's weights into a model directory; all but the mesh is as the run began. Raises Mistake."""
    output = options.export
    assert output is not None
    config = read_own(options.run_dir, CONFIGS)
    if config.part not in PARTS:
        raise Mistake(f"{options.run_dir}: this run trained {config.part}, one of {', '.join(PARTS)} is known")
    part = PARTS[config.part]
    exports.check_model_directory(output, part.names, config.run_dir, config.checkpoint)
    step = exports.choose_step(config.run_dir, options.export_step)
    run = part.prepare(dataclasses.replace(config, mesh=options.mesh))
    check_memory(run.abstract, run.devices)
    check_folder(output, space=size((run.abstract.params, run.abstract.frozen)))
    state = exports.restore(run, step)
    lacking = exports.write_model(output, part.exported(run, state), config.checkpoint, defaults.read(config.run_dir))
    print(f"{output}: {' and '.join(part.names)} of step {step}")
    if lacking:
        needed = "import them there before sampling, or export into a model directory that has them"
        print(f"{output}: it has no {', '.join(lacking)}: {needed}", file=sys.stderr)
    return 0


def compile_only(config: TrainConfig) -> int:
    """Compile the step for virtual devices and print what it takes on each."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", config.devices)
    sizes = dit.compiled_memory(PARTS[config.part].prepare(config))
    frames, height, width = config.video
    needed = ", ".join(f"{name} {size:.2f} GiB" for name, size in sizes.items())
    print(f"{config.train}, {frames} frames of {height}x{width}, batch {config.batch}, remat {config.remat}, on "
          f"{count(config.devices, 'device')}, each: {needed}")
    return 0
