"""What there is to do of a list of videos, which of them pass the steps together, and what it costs."""

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from stableavatar_jax.diffusion import order
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import IMAGE_TOKENS
from stableavatar_jax.plan import cost
from stableavatar_jax.plan.kept import check_room
from stableavatar_jax.sampling.calibration import check
from stableavatar_jax.sampling.config import Denoising, SampleConfig
from stableavatar_jax.sampling.job import open_job
from stableavatar_jax.sampling.jobs_file import Listed
from stableavatar_jax.sampling.paths import check_given, check_written
from stableavatar_jax.sampling.restart import identity
from stableavatar_jax.sampling.timeline import Timeline, timeline

CONDITIONS = 2 * 2**30
"""Bytes of features and pictures of videos that are made together, on the host."""
MOST_TOGETHER = 256
"""Videos that are made together at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Planned:
    """A video of a list, its inputs looked at."""

    job: Listed
    """What it is made from."""
    options: dict[str, Any] = field(default_factory=dict)
    """Its options and what is in its inputs (`restart.identity`)."""
    time: Timeline | None = None
    """Its geometry; None where it is not to be made."""
    fault: Exception | None = None
    """Why it cannot be made."""

    @property
    def due(self) -> bool:
        """Whether it is to be made: it is not there yet, and nothing is known that stands against it."""
        return self.time is not None

    @property
    def known(self) -> Timeline:
        """The geometry of one that is to be made."""
        assert self.time is not None
        return self.time

    @property
    def evaluations(self) -> int:
        """Passes of the transformer."""
        return self.known.windows.count * self.job.config.denoising.branches_run()


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Videos that pass the steps one behind the other; or a single one."""

    jobs: Sequence[Planned]
    """In the order of the list."""
    denoising: Denoising
    """How all of them are denoised, settled."""

    @property
    def work(self) -> tuple[int, int]:
        """Rows that pass the transformer, and rows that are needed."""
        windows, denoising = [each.known.windows.count for each in self.jobs], self.denoising
        if denoising.order == "wavefront":
            meet = order.reach(denoising.windows.window, denoising.windows.overlap)
            made = order.work(windows, meet, denoising.steps, denoising.windows.at_once, denoising.schedule())
            return made.evaluated, made.needed
        rows = denoising.windows.at_once
        filled = sum(rows * math.ceil(each / rows) for each in windows)
        return denoising.steps * filled, denoising.steps * sum(windows)


def look(job: Listed) -> Planned:
    """A video of a list: whether it is there, and whether its inputs can be read. Nothing is kept of them."""
    options: dict[str, Any] = {}
    try:
        if job.fault:
            raise Mistake(job.fault)
        check_given(job.config)
        options = identity(job.config)
        if _is_there(job, options):
            return Planned(job=job, options=options)
        time = open_job(job.config).known
        if job.output.parent.is_dir():
            check_written(job.config, time.frames, time.windows.frames)
        check(job.config.denoising, job.config.frame)
        way = dataclasses.replace(job.config, denoising=job.config.denoising.settled(time.windows.count))
        planned = cost.plan(way, time)
        check_room(way, planned.memory["transformer"], planned.remembered)
        return Planned(job=job, options=options, time=time)
    except Exception as error:  # whatever it is, it stops no other video
        return Planned(job=job, options=options, fault=error)


def _is_there(job: Listed, options: dict[str, Any]) -> bool:
    """Whether the video stands and was made with these options and inputs."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return job.output.is_file() and json.loads(job.record.read_text())["options"] == options
    return False


def share(planned: Sequence[Planned], processes: int) -> list[int]:
    """The process that makes each video, so that all have about the same work; -1 where it is not to be made."""
    owners, work = [-1] * len(planned), [0] * processes
    size = [each.evaluations * math.prod(each.job.config.frame.latent_size) if each.due else 0 for each in planned]
    for number in sorted(range(len(planned)), key=lambda number: -size[number]):
        if planned[number].due:
            owners[number] = work.index(min(work))
            work[owners[number]] += size[number]
    return owners


def groups(planned: Sequence[Planned], keep: bool, devices: int = 1) -> list[Group]:
    """Which of the videos that are due are made together: those of one size that are denoised alike and are shorter
    than the line of the wavefront is long. `keep` says whether all weights stay in memory; rows are dealt to so many
    devices.
    """
    shapes: dict[Any, list[Planned]] = {}
    for each in planned:
        if each.due:
            config = each.job.config
            shape = (config.frame, config.denoising) if _is_short(each) else each.job.line
            shapes.setdefault(shape, []).append(each)
    found = []
    for same in shapes.values():
        config = same[0].job.config
        number = math.ceil(len(same) / together(config, keep))
        parts = [same[len(same) * i // number : len(same) * (i + 1) // number] for i in range(number)]
        taken = beside(config, keep, len(parts[0]))
        settled = (cost.settled(config, *_windows(part), devices=devices, beside=taken) for part in parts)
        ways = [each.denoising for each in settled]
        # One way for all, so that one program serves all; of a video that is left alone `settled` may say plain.
        way = min(ways, key=lambda way: (way.order == "plain", way.windows.at_once))
        found += [Group(jobs=part, denoising=way) for part in parts]
    return sorted(found, key=lambda group: group.jobs[0].job.line)


def _windows(jobs: Sequence[Planned]) -> list[int]:
    return [each.known.windows.count for each in jobs]


def _is_short(each: Planned) -> bool:
    """Whether a video is made with others: alone it would not fill the line, and nothing else is asked of it."""
    config = each.job.config
    denoising, windows = config.denoising, config.denoising.windows
    places = order.reach(windows.window, windows.overlap) * denoising.steps
    kept = config.keeping.latents or config.keeping.preview
    alone = denoising.order == "plain" or config.inputs.decode_only or kept
    return not alone and each.known.windows.count < places


def _carried(config: SampleConfig) -> tuple[int, int]:
    """Bytes of what a video brings along: keys and values of its texts and picture on the device, and on the host."""
    c, windows = config.model.dit, config.denoising.windows
    device = jnp.dtype(config.weights.dtype).itemsize * (2 * c.text_len + IMAGE_TOKENS) * c.dim * 2 * c.layers
    reference = windows.window * math.prod(config.frame.latent_size) * c.in_channels
    features = 2 * c.text_len * c.text_dim + IMAGE_TOKENS * c.image_dim + reference
    return 2 * device, 4 * (features + 3 * config.frame.height * config.frame.width)


def _memory(config: SampleConfig) -> tuple[float, float, float]:
    """Bytes that there are, of all encoders' weights, and of the transformer at work with one row."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit") or _host_memory()
    short = timeline(1, config.frame.fps, config.denoising.windows)
    alone = dataclasses.replace(config, denoising=dataclasses.replace(config.denoising, order="wavefront"))
    told = cost.plan(alone, short)
    return cost.USABLE * limit, told.weights["encoding"], told.memory["transformer"]


def keeps(planned: Sequence[Planned]) -> bool:
    """Whether all weights stay in memory from one video to the next: there is room beside the transformer's work."""
    shapes = {(config.frame, config.denoising): config for config in (each.job.config for each in planned if each.due)}
    return all(encoders + transformer <= limit for limit, encoders, transformer in map(_memory, shapes.values()))


def together(config: SampleConfig, keep: bool) -> int:
    """Videos of such a config that are made together: their features fit in memory, in half of what is left."""
    limit, encoders, transformer = _memory(config)
    device, host = _carried(config)
    left = limit - transformer - (encoders if keep else 0)
    return int(max(1, min(MOST_TOGETHER, CONDITIONS // host, left / 2 // device)))


def beside(config: SampleConfig, keep: bool, jobs: int) -> float:
    """Bytes on the device beside the transformer and its work, with so many videos made together."""
    _, encoders, _ = _memory(config)
    return (jobs * _carried(config)[0] if jobs > 1 else 0) + (encoders if keep else 0)


def _host_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
