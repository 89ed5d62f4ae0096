"""The command that makes a talking video: `python sample.py`, or `stableavatar-sample` where it is installed.

`calibrate` in front of the options is the command of `calibrate.py`.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence

from stableavatar_jax import commands
from stableavatar_jax.errors import Mistake
from stableavatar_jax.hosts import DistributedConfig
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.sampling.defaults import of_models
from stableavatar_jax.sampling.jobs_file import read_jobs
from stableavatar_jax.sampling.paths import check_given, check_weights, check_written
from stableavatar_jax.whole import check_folder

A_MINUTE = 60 * 16000
"""Samples of what a live sound's plan is made for."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["calibrate"]:
        from stableavatar_jax.sampling import calibrate

        return calibrate.main(argv[1:])
    return commands.main(SampleConfig, argv, run=run, start=defaults)


def defaults(argv: Sequence[str]) -> SampleConfig | None:
    """What the model directories on a command line say of how they are sampled."""
    return of_models(SampleConfig(), argv)


def run(config: SampleConfig) -> int:
    """What the options ask for, a video or a list of videos; the exit status. Raises Mistake."""
    jobs_file, folder = config.several.jobs, config.several.output_dir
    if jobs_file is None or folder is None:
        if config.distributed != DistributedConfig():
            raise Mistake("--distributed shares the videos of --jobs among processes; one video is made by one process")
        make(config)
        return 0
    listed = read_jobs(config)
    check_weights(config)
    check_folder(folder)
    from stableavatar_jax.sampling import jobs

    return jobs.run(config, listed)


def make(config: SampleConfig) -> None:
    """One job: inputs -> encoders -> latents -> frames -> file. Raises Mistake."""
    begun = time.perf_counter()
    check_given(config)
    check_written(config)
    import jax

    from stableavatar_jax import startup
    from stableavatar_jax.compiling import keep_compiled
    from stableavatar_jax.encoding.conditions import save_conditions
    from stableavatar_jax.media import LiveSound
    from stableavatar_jax.plan import cost
    from stableavatar_jax.plan.kept import check_room
    from stableavatar_jax.plan.machine import machine
    from stableavatar_jax.sampling.avatar import open_avatar
    from stableavatar_jax.sampling.deliver import deliver
    from stableavatar_jax.sampling.job import about, open_job
    from stableavatar_jax.sampling.live import Lag
    from stableavatar_jax.sampling.loras import read_loras
    from stableavatar_jax.sampling.progress import Bars, Pace, both, ending, first_step
    from stableavatar_jax.sampling.restart import discard
    from stableavatar_jax.sampling.timeline import timeline

    startup.watch()
    keep_compiled()
    keeping = config.keeping
    avatar = open_avatar(config, read_loras(config.weights.lora))
    config = dataclasses.replace(config, model=avatar.model)
    if keeping.restart:
        discard(keeping.output)
    job = open_job(config)
    avatar.check(job)
    if keeping.save_conditions:
        with Bars() as bars:
            save_conditions(keeping.save_conditions, avatar.conditions([job], bars, sound=True)[0], about(job))
        return print(keeping.save_conditions)
    live = job.windows is None
    time_planned = timeline(A_MINUTE, config.frame.fps, config.denoising.windows) if live else job.known
    config = cost.settled(config, job.windows, devices=avatar.devices)
    job = dataclasses.replace(job, denoising=config.denoising)
    check_written(config, time_planned.frames, time_planned.windows.frames)
    here = machine(jax.devices()[0], config.weights.dtype).times(avatar.devices)
    planned = cost.plan(config, time_planned, devices=avatar.devices)
    check_room(config, planned.memory["transformer"], planned.remembered)
    print(cost.describe(config, planned, here, live=live), flush=True)
    print(avatar.told(config.denoising), flush=True)
    if config.several.dry_run:
        return None
    pace = Pace()
    with Bars() as bars:
        lag = Lag(job.sound, config.frame.fps) if isinstance(job.sound, LiveSound) else None
        deliver(config, job, avatar, both(bars, first_step(), pace, *([lag] if lag else [])))
    taken = time.perf_counter() - begun
    told = ending(keeping.output, job.known.seconds, taken, pace.frames_a_second())
    return print(*filter(None, (lag, told)), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
