"""A list of videos: `python sample.py --jobs jobs.jsonl --output-dir DIR`.

Weights are loaded once. Short videos of one size pass the steps one behind the other, packed into the same batches;
longer ones are made one after another, each in a run that can be taken up again. A video that fails stops no other.
"""

import contextlib
import dataclasses
import itertools
import signal
import time
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from tqdm import tqdm

from stableavatar_jax import hosts, startup
from stableavatar_jax.compiling import keep_compiled
from stableavatar_jax.errors import UNWRITTEN, Mistake, explained
from stableavatar_jax.locks import alone
from stableavatar_jax.media import VideoWriter
from stableavatar_jax.plan.machine import machine
from stableavatar_jax.sampling.avatar import Avatar, open_avatar
from stableavatar_jax.sampling.config import Denoising, SampleConfig
from stableavatar_jax.sampling.deliver import deliver
from stableavatar_jax.sampling.job import Job, open_job
from stableavatar_jax.sampling.jobs_file import Listed
from stableavatar_jax.sampling.jobs_plan import Group, Planned, groups, keeps, look, share
from stableavatar_jax.sampling.jobs_report import Report, Reports, describe
from stableavatar_jax.sampling.loras import read_loras
from stableavatar_jax.sampling.paths import check_written, run_folder
from stableavatar_jax.sampling.program import Block
from stableavatar_jax.sampling.progress import both, first_step
from stableavatar_jax.sampling.restart import discard
from stableavatar_jax.sampling.video import WAITING
from stableavatar_jax.shapes import Float
from stableavatar_jax.threads import behind


def run(config: SampleConfig, listed: Sequence[Listed]) -> int:
    """Make the videos of a command line's list; the exit status: 1 where one failed. Raises Mistake."""
    begun, folder = time.perf_counter(), config.several.output_dir
    assert folder is not None
    hosts.start(config.distributed)
    if hosts.count() > 1:  # JAX takes SIGTERM for itself, to tell it to all; here each process ends by itself
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    startup.watch()
    keep_compiled()
    avatar = open_avatar(config, read_loras(config.weights.lora))
    listed = [dataclasses.replace(job, config=dataclasses.replace(job.config, model=avatar.model)) for job in listed]
    if config.several.dry_run:
        planned, _, _ = _plan(listed, avatar.devices)
        return int(any(each.fault for each in planned))
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with alone(folder) if hosts.is_first() else contextlib.nullcontext():
        planned, ours, avatar.parts.keep = _plan(listed, avatar.devices)
        report = Report(folder, [each.job for each in planned])
        with report:
            for each in planned:
                if each.fault:
                    report.failed(each.job, each.fault)
                elif not each.due:
                    report.there(each.job)
            maker = Maker(avatar, report)
            for group in ours:
                maker.make(group)
            with hosts.together(lambda: "the same command goes on with the list"):
                hosts.meet("jobs")
            report.gather()
    if hosts.is_first():
        print(report.table(time.perf_counter() - begun))
    return int(not report.all_well)


def _plan(listed: Sequence[Listed], devices: int) -> tuple[list[Planned], list[Group], bool]:
    """The videos looked at, the groups of them that this process makes, and whether weights stay in memory.

    The first process decides who makes what, and prints the plan of all; the others look at what is theirs.
    """
    first, mine = hosts.is_first(), hosts.index()
    planned = [look(job) for job in tqdm(listed, "inputs", unit="job", leave=False, delay=2)] if first else []
    owners = hosts.agree(share(planned, hosts.count()) if first else [0] * len(listed))
    if not first:
        planned = [look(job) for job, owner in zip(listed, owners, strict=True) if owner == mine]
        keep = keeps(planned)
        return planned, groups(planned, keep, devices), keep
    keep = keeps(planned)
    here = machine(jax.local_devices()[0], listed[0].config.weights.dtype).times(devices)
    print(describe(planned, groups(planned, keep, devices), keep, here, devices), flush=True)
    ours = [each for each, owner in zip(planned, owners, strict=True) if owner == mine]
    return planned, groups(ours, keep, devices), keep


class Maker:
    """Makes groups of videos, and reports each."""

    def __init__(self, avatar: Avatar, report: Reports):
        self._avatar, self._report = avatar, report
        self._tell = both(report, first_step())
        self._since = time.perf_counter()

    def make(self, group: Group) -> None:
        """Make the videos of a group. What ends all of them at once is found by making them one after another."""
        for planned in self._together(group) if len(group.jobs) > 1 else group.jobs:
            try:
                self._alone(planned, group.denoising)
            except Exception as error:
                self._failed(planned, error)
            else:
                self._made(planned)

    def _alone(self, planned: Planned, denoising: Denoising) -> None:
        """A video in a run that can be taken up again."""
        config = dataclasses.replace(planned.job.config, denoising=denoising)
        self._make_way(planned)
        deliver(config, dataclasses.replace(open_job(config), denoising=denoising), self._avatar, self._tell)

    def _together(self, group: Group) -> list[Planned]:
        """Videos that pass the steps one behind the other; those that are left where their common run ended early."""
        opened: list[tuple[Planned, Job]] = []
        for planned in group.jobs:
            config = dataclasses.replace(planned.job.config, denoising=group.denoising)
            try:
                self._make_way(planned)
                opened.append((planned, open_job(config)))
            except Exception as error:
                self._failed(planned, error)
        blocks = _Blocks(self._blocks([job for _, job in opened]) if opened else iter(()))
        left = dict(enumerate(planned for planned, _ in opened))
        try:
            for video, own in itertools.groupby(blocks, key=lambda block: block.video):
                planned, job = opened[video]
                try:
                    self._write(planned, job, blocks.of(video, own))
                except Exception as error:
                    if blocks.ended:
                        raise
                    self._failed(left.pop(video), error)
                else:
                    self._made(left.pop(video))
        except Exception as error:
            if blocks.ended is not error:
                raise
            tqdm.write(f"{len(left)} videos that were made together are made one after another, as this ended: {error}")
        for video in blocks.mistakes.keys() & left.keys():
            self._failed(left.pop(video), blocks.mistakes[video])
        return list(left.values())

    def _blocks(self, jobs: list[Job]) -> Iterator[Block]:
        """Finished latents of jobs, of which only the features are kept."""
        conditions = self._avatar.conditions(jobs, self._tell)
        pairs = zip(jobs, conditions, strict=True)
        jobs[:] = [dataclasses.replace(job, conditions=each, picture=None) for job, each in pairs]
        yield from self._avatar.denoise(jobs, self._tell)

    def _write(self, planned: Planned, job: Job, latents: Iterator[Float[np.ndarray, "n H W C"]]) -> None:
        config, frame = planned.job.config, job.frame
        height, width = frame.height * frame.enlarge, frame.width * frame.enlarge
        keeping = config.keeping
        with (
            job.sound.open() as sound,
            VideoWriter(
                planned.job.output, fps=frame.fps, height=height, width=width, sound=sound, crf=keeping.crf,
                preset=keeping.x264_preset,
            ) as video,
            behind(video.write, WAITING) as write,
        ):  # fmt: skip
            for frames in self._avatar.decode(latents, job, self._tell):
                write(frames)

    def _make_way(self, planned: Planned) -> None:
        """Look at what is written later. The record of an older video goes first: it is not of the new one."""
        job, time = planned.job, planned.known
        job.output.parent.mkdir(parents=True, exist_ok=True)
        check_written(job.config, time.frames, time.windows.frames)
        job.record.unlink(missing_ok=True)
        if job.config.keeping.restart and run_folder(job.output).exists():
            discard(job.output)

    def _made(self, planned: Planned) -> None:
        now = time.perf_counter()
        self._report.made(planned, now - self._since)
        self._since = now

    def _failed(self, planned: Planned, error: Exception) -> None:
        """Report a failure; a disk that takes no more ends the list, as the others would fail after hours."""
        if getattr(error, "reason", "") == UNWRITTEN:
            raise error
        self._since = time.perf_counter()
        self._report.failed(planned.job, error)


class _Blocks:
    """Finished latents of videos, without the mistakes among them."""

    def __init__(self, blocks: Iterator[Block]):
        self._blocks = blocks
        self.mistakes: dict[int, Mistake] = {}
        """Videos that came to an end."""
        self.ended: Exception | None = None
        """What ended all of them."""

    def __iter__(self) -> Iterator[Block]:
        try:
            for block in self._blocks:
                if isinstance(block.z, Mistake):
                    self.mistakes[block.video] = block.z
                else:
                    yield block
        except Exception as error:
            self.ended = error
            raise

    def of(self, video: int, blocks: Iterator[Block]) -> Iterator[Float[np.ndarray, "n H W C"]]:
        """The latents of a video. Raises its Mistake where they end with one."""
        for block in blocks:
            assert not isinstance(block.z, Mistake)
            yield block.z
        if video in self.mistakes:
            raise self.mistakes[video]
