"""What is told of a list of videos: the plan, how far it is, the causes of failures, and a summary."""

import dataclasses
import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

from tqdm import tqdm

from stableavatar_jax import hosts
from stableavatar_jax.errors import Mistake
from stableavatar_jax.plan import cost
from stableavatar_jax.plan.machine import Machine
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.sampling.jobs_file import SUMMARY, Listed
from stableavatar_jax.sampling.jobs_plan import Group, Planned, beside
from stableavatar_jax.sampling.progress import Decoded, Denoised, Encoding, Event
from stableavatar_jax.whole import whole
from stableavatar_jax.words import count, duration


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a video of a list: a line of the summary."""

    line: int
    output: str
    """The video, relative to the output directory."""
    result: str
    """`made`, `there` (it was there before), `failed`, or `left` (it was not reached)."""
    video: float | None = None
    """Seconds of the video that was made."""
    seconds: float | None = None
    """Time it took: since the video before it was finished."""
    error: str | None = None
    """Why it failed."""


@runtime_checkable
class Reports(Protocol):
    """What is told of videos while they are made. As a listener it may raise to end one."""

    def __call__(self, event: Event, /) -> None:
        """An event of the video or group that is being made."""

    def made(self, planned: Planned, seconds: float) -> None:
        """A video stands."""

    def failed(self, job: Listed, error: Exception) -> None:
        """A video cannot be made."""


class Report:
    """Keeps what becomes of each video, and shows how far the list is. As a listener it shows the present stage.

    >>> with Report(folder, listed) as report:
    ...     report.made(planned, seconds)
    """

    def __init__(self, folder: Path, listed: Sequence[Listed]):
        self._folder, self._listed = folder, listed
        self.results = {job.line: self._result(job, "left") for job in listed}
        """By the lines of the list."""
        self._bar: tqdm | None = None

    def __enter__(self) -> "Report":
        self._bar = tqdm(total=len(self.results), desc="jobs", unit="job", miniters=0, mininterval=0.5)
        self._bar.update(sum(each.result != "left" for each in self.results.values()))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._bar is not None
        self._bar.set_postfix_str("")
        self._bar.close()
        self._bar = None
        if isinstance(error, KeyboardInterrupt):
            print("what stands is kept: the same command goes on with the list", file=sys.stderr)
        if hosts.is_first():
            self._write()

    def __call__(self, event: Event) -> None:
        """Show the stage of the video or group that is being made."""
        match event:
            case Encoding(part, _, _):
                stage = f"encode {part}"
            case Denoised(done, of):
                stage = f"denoise {done}/{of}"
            case Decoded(done, of):
                stage = f"decode {done}/{of}"
            case _:
                return
        if self._bar is not None:
            self._bar.set_postfix_str(stage, refresh=False)
            self._bar.update(0)

    def there(self, job: Listed) -> None:
        """A video was there before."""
        self._settle(self._result(job, "there"))

    def made(self, planned: Planned, seconds: float) -> None:
        """A video stands; its record is written beside it. Raises Mistake where that cannot be written."""
        job, length = planned.job, planned.known.seconds
        with whole(job.record) as partial:
            about = {"seconds": round(seconds, 3), "video_seconds": length, "options": planned.options}
            partial.write_text(json.dumps(about, indent=1) + "\n")
        job.error_file.unlink(missing_ok=True)
        self._settle(self._result(job, "made", video=length, seconds=round(seconds, 3)))

    def failed(self, job: Listed, error: Exception) -> None:
        """A video cannot be made; the cause is written beside where it would be, of a bug with its traceback."""
        told = str(error) if isinstance(error, Mistake) else f"{type(error).__name__}: {error}"
        trace = "" if isinstance(error, Mistake) else "\n" + "".join(traceback.format_exception(error))
        job.error_file.parent.mkdir(parents=True, exist_ok=True)
        with whole(job.error_file) as partial:
            partial.write_text(f"{told}\n{trace}")
        if self._bar is not None:
            tqdm.write(f"{job.output.name} failed: {told}")
        self._settle(self._result(job, "failed", error=told))

    def gather(self) -> None:
        """Look at what other processes made, by the files beside their videos."""
        for job in self._listed:
            if self.results[job.line].result == "left":
                self._add(job)

    def _add(self, job: Listed) -> None:
        if job.error_file.exists():
            told = job.error_file.read_text().split("\n\n")[0].strip()
            self._settle(self._result(job, "failed", error=told))
        elif job.record.exists():
            about = json.loads(job.record.read_text())
            self._settle(self._result(job, "made", video=about["video_seconds"], seconds=about["seconds"]))

    @property
    def all_well(self) -> bool:
        """Whether every video stands."""
        return all(each.result in ("made", "there") for each in self.results.values())

    def _write(self) -> None:
        """Write the summary as JSON lines."""
        lines = [json.dumps(dataclasses.asdict(each), ensure_ascii=False) for each in self.results.values()]
        with whole(self._folder / SUMMARY) as partial:
            partial.write_text("".join(f"{line}\n" for line in lines))

    def table(self, seconds: float) -> str:
        """The summary for people; `seconds` is what all took."""
        results = list(self.results.values())
        width = max(len(each.output) for each in results)
        lines = []
        for each in results:
            told = each.error.splitlines()[0] if each.error else ""
            if each.video is not None and each.seconds is not None:
                told = f"{each.video:.2f} s of video in {duration(each.seconds)}"
            lines.append(f"{each.output:{width}}  {each.result:6}  {told}".rstrip())
        made = sum(each.video or 0 for each in results)
        counts = {kind: sum(each.result == kind for each in results) for kind in ("made", "there", "failed", "left")}
        counted = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
        lines.append(f"{count(len(results), 'video')}: {counted}; {made:.2f} s of video in {duration(seconds)}")
        return "\n".join(lines)

    def _result(self, job: Listed, result: str, **more: float | str) -> Result:
        output = str(job.output.relative_to(self._folder))
        return Result(line=job.line, output=output, result=result, **more)  # type: ignore[arg-type]

    def _settle(self, result: Result) -> None:
        self.results[result.line] = result
        if self._bar is not None:
            self._bar.update(1)


def describe(
    planned: Sequence[Planned], groups: Sequence[Group], keep: bool, machine: Machine, devices: int = 1
) -> str:
    """The plan of a list in words: of all, and a line for each video."""
    due = [each for group in groups for each in group.jobs]
    failing = sum(each.fault is not None for each in planned)
    lines = [f"{each.job.output.name:12} fails: {str(each.fault).splitlines()[0]}" for each in planned if each.fault]
    counted = f"{len(due)} to be made, {len(planned) - len(due) - failing} there, {failing} that fail"
    head = [f"list      {count(len(planned), 'video')}: {counted}"]
    if not due:
        return "\n".join([*lines, *head])
    rows, needed = 0, 0
    stages: dict[str, float] = {}
    memory, reading, shapes = 0.0, 0.0, set()
    for group in groups:
        more, wanted = group.work
        rows, needed = rows + more, needed + wanted
        for each in group.jobs:
            config = dataclasses.replace(each.job.config, denoising=group.denoising)
            told = cost.plan(config, each.known, devices=devices)
            reading = sum(told.weights.values()) / cost.READING
            memory = max(memory, max(told.memory.values()) + beside(config, keep, len(group.jobs)))
            at_work = dataclasses.replace(told, weights=dict.fromkeys(told.weights, 0.0))  # they are read once
            took = cost.seconds(config, at_work, machine)
            compiling = took.pop("compiling")
            stages = {name: stages.get(name, 0.0) + each for name, each in took.items()}
            lines.append(_line(each, config, sum(took.values())))
        shapes.add((each.job.config.frame, group.denoising))
    lines.sort()
    stages |= {"reading": reading * (1 if keep else len(groups)), "compiling": compiling * len(shapes)}
    windows = sum(each.known.windows.count for each in due)
    alone = sum(len(group.jobs) == 1 for group in groups)
    packed = count(len(groups) - alone, "group")
    head += [
        f"videos    {sum(each.known.seconds for each in due):.2f} s in all, "
        f"{count(sum(each.known.frames for each in due), 'frame')}",
        f"windows   {windows}, of {count(len(due) - alone, 'video')} packed in {packed}, of {alone} one after another",
        f"work      {count(sum(each.evaluations for each in due), 'evaluation')}, "
        f"{rows / needed:.3g} rows evaluated for each needed",
        f"memory    about {memory / 2**30:.1f} GiB on the device"
        + (", and all weights stay there" if keep else "; weights are read anew for each group"),
        f"time      about {duration(sum(stages.values()))} on {machine.name} ({machine.told}): "
        + ", ".join(f"{stage} {duration(took)}" for stage, took in stages.items()),
    ]
    return "\n".join([*lines, *head])


def _line(each: Planned, config: SampleConfig, seconds: float) -> str:
    frame, time = config.frame, each.known
    return (
        f"{each.job.output.name:12} {time.seconds:.2f} s, {frame.height}x{frame.width}, "
        f"{count(time.windows.count, 'window')}, {count(each.evaluations, 'evaluation')}, about {duration(seconds)}"
    )
