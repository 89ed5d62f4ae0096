"""The command that makes a talking video: `python sample.py`, or `stableavatar-sample` where it is installed."""

import dataclasses
import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from stableavatar_jax import commands
from stableavatar_jax.options import peek
from stableavatar_jax.sampling.config import SampleConfig, with_defaults
from stableavatar_jax.sampling.paths import check_given, check_written


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    return commands.main(SampleConfig, argv, run=run, start=defaults)


def defaults(argv: Sequence[str]) -> SampleConfig | None:
    """The defaults that a checkpoint on the command line brings along; a preset takes their place."""
    folder = peek(argv, "--checkpoint")
    return with_defaults(SampleConfig(), Path(folder)) if folder else None


def run(config: SampleConfig) -> None:
    """One job: inputs -> encoders -> latents -> frames -> file. Raises Mistake."""
    begun = time.perf_counter()
    check_given(config)
    check_written(config)
    from stableavatar_jax import startup
    from stableavatar_jax.compiling import keep_compiled
    from stableavatar_jax.encoding.conditions import save_conditions
    from stableavatar_jax.plan import cost
    from stableavatar_jax.sampling.avatar import open_avatar
    from stableavatar_jax.sampling.job import about, open_job
    from stableavatar_jax.sampling.latents import kept
    from stableavatar_jax.sampling.loras import read_loras
    from stableavatar_jax.sampling.progress import Bars, both, ending, first_step
    from stableavatar_jax.sampling.video import write

    startup.watch()
    keep_compiled()
    keeping = config.keeping
    avatar = open_avatar(config, read_loras(config.weights.lora))
    config = dataclasses.replace(config, model=avatar.model)
    job = open_job(config)
    if keeping.save_conditions:
        with Bars() as bars:
            save_conditions(keeping.save_conditions, avatar.conditions(job, bars), about(job))
        return print(keeping.save_conditions)
    check_written(config, job.timeline.frames, job.timeline.windows.frames)
    print(cost.describe(config, cost.plan(config, job.timeline), cost.matrix_speed(config.weights.dtype)), flush=True)
    make = functools.partial(write, keeping.output, job, avatar, sound=config.inputs.audio, crf=keeping.crf)
    if config.inputs.decode_only:
        with Bars() as bars:
            make(tell=bars)
    else:
        shape = (job.timeline.windows.frames, *config.frame.latent_size, config.model.vae.z_dim)
        with kept(keeping.latents, keeping.output, shape) as keep, Bars() as bars:
            make(tell=both(keep, bars, first_step()))
    return print(ending(keeping.output, job.timeline.seconds, time.perf_counter() - begun))


if __name__ == "__main__":
    sys.exit(main())
