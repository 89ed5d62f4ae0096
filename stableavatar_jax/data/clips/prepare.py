"""From raw clips to clips with masks, sound and a report: what `build` reads.

    OUT/talk.mp4          the clip itself (a hard link where possible)
    OUT/talk.masks.zip    face_masks/frame_0.png, lip_masks/frame_0.png, ...
    OUT/talk.wav          its sound, or the voice alone where that is given
    OUT/talk.quality.json its measures; written last, so a clip that has one is whole
    OUT/report.csv        all clips, with what is wrong with each
    OUT/clips.txt         those to use

A clip whose frame rate is changed is encoded again. The same command goes on where it was stopped.
"""

import dataclasses
import json
import logging
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stableavatar_jax import media
from stableavatar_jax.data.clips.config import PrepareConfig
from stableavatar_jax.data.clips.faces import FaceFinder
from stableavatar_jax.data.clips.layouts import MASKS_SUFFIX, QUALITY_SUFFIX, VIDEO_SUFFIXES, check_name, named_clips
from stableavatar_jax.data.clips.quality import Measurement, Quality, as_row, faults, uneven_time
from stableavatar_jax.data.clips.report import GOES_ON, REPORTS, advice, needed, several, write_reports
from stableavatar_jax.data.clips.speakers import choose, everyone, mask_path, read_mask, write_masks
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.clips.voices import voice_of, write_sound
from stableavatar_jax.data.clips.workers import CRASHED, Work, outcomes
from stableavatar_jax.errors import UNWRITTEN, Mistake, explained
from stableavatar_jax.locks import alone, hidden
from stableavatar_jax.media.files import check_file
from stableavatar_jax.shapes import UInt8
from stableavatar_jax.whole import check_folder, check_output, whole
from stableavatar_jax.words import count

LOG = logging.getLogger(__name__)
SAME_RATE = 0.01
"""Frames a second by which a rate may differ from the one that is asked for."""
CRF = 12
"""x264's quality of clips that are encoded again: the loss cannot be seen."""


def prepare(config: PrepareConfig) -> Tally:
    """Prepare every clip of a source; returns what was left out. Raises Mistake."""
    names = {path: _inside(name, config) for name, path in named_clips(config.source).items() if not path.is_dir()}
    _check(config, names)
    FaceFinder(config.detector, config.landmarks)  # what is wrong with the models is said once, before any work
    with explained(config.output, GOES_ON):
        config.output.mkdir(parents=True, exist_ok=True)
    with alone(config.output):
        return _prepare_all(config, names)


def _prepare_all(config: PrepareConfig, names: dict[Path, str]) -> Tally:
    tally = Tally(on_bad=config.on_bad)
    reports: dict[str, dict] = {}
    short: list[int] = []
    by_rule: list[str] = []
    for name, outcome in tqdm(_run(config, names), total=len(names), desc="clips", unit="clip"):
        if isinstance(outcome, Mistake):
            if outcome.reason == UNWRITTEN:
                raise outcome
            if outcome.reason == CRASHED:
                _clear(config.output / name)
            tally.refuse(outcome)
            reports[name] = {"faults": str(outcome)}
            continue
        if outcome.faces > 1 and config.face is None and not mask_path(config.mask, name):
            by_rule.append(name)
        found = faults(outcome, config.limits)
        if outcome.frames < config.frames:
            short.append(outcome.frames)
            found.append(f"{count(outcome.frames, 'frame')}, a training window has {config.frames} (--frames)")
        reports[name] = {"faults": "; ".join(found), **as_row(outcome)}
        if found:
            tally.refuse_quietly("beyond the limits")
        else:
            tally.used += 1
    write_reports(config.output, dict(sorted(reports.items())))
    if by_rule:
        LOG.warning("%s", several(sorted(by_rule)))
    if short:
        LOG.warning("%s", advice(short, config.frames))
    return tally


def prepare_clip(path: Path, name: str, config: PrepareConfig, finder: FaceFinder) -> Quality:
    """Prepare one clip, unless it is there already; its measures. Raises Mistake, and leaves nothing then."""
    check_file(path)
    check_name(path, name)
    target = config.output / name
    report = target.with_suffix(QUALITY_SUFFIX)
    mask = mask_path(config.mask, name)
    stamp = {"bytes": path.stat().st_size, "grow": config.grow, "vocals": str(config.vocals), "fps": config.fps,
             "face": config.face, "mask": zlib.crc32(mask.read_bytes()) if mask else None}  # fmt: skip
    if done := _finished(report, stamp):
        return done
    with explained(target, GOES_ON):
        target.parent.mkdir(parents=True, exist_ok=True)
    info = media.probe(path)
    fps = config.fps or info.fps
    same = abs(fps - info.fps) < SAME_RATE and not (config.fps and path.suffix.lower() != ".mp4")
    white = read_mask(mask) if mask else None
    voice = voice_of(config, name)
    if not voice and not info.sound:
        raise Mistake(f"{path}: the clip has no sound; record or export it with its sound", "no sound")
    measured = Measurement()
    with ExitStack() as written:
        wav = written.enter_context(whole(target.with_suffix(".wav"), advice=GOES_ON))
        sound_rate = write_sound(voice or path, wav)
        zipped = written.enter_context(whole(target.with_suffix(MASKS_SUFFIX), advice=GOES_ON))
        masks = written.enter_context(zipfile.ZipFile(zipped, "w"))
        if same:
            frames = media.read_video(path)
        else:
            height, width = info.height // 2 * 2, info.width // 2 * 2  # H.264 has no odd sizes
            writer = media.VideoWriter(target, fps=fps, height=height, width=width, crf=CRF)
            frames = _kept(written.enter_context(writer), at_rate(path, info, fps))
        people = everyone(finder, _seen(measured, frames))
        who = choose(people, path, config.face, white, measured.size)
        measured.person(people[who].faces, who + 1, len(people) if people[who].found else 0)
        write_masks(masks, people[who].faces, measured.size, config.grow)
        quality = measured.result(fps, media.read_sound(wav), sound_rate, uneven_time(path, fps) if same else 0.0)
    if same:
        _link(path, target)
    with whole(report, advice=GOES_ON) as partial:
        partial.write_text(json.dumps({**stamp, "quality": dataclasses.asdict(quality)}, indent=2) + "\n")
    return quality


def at_rate(path: Path, info: media.VideoInfo, fps: float) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of a video at another rate: for the middle of each new frame, the one that is shown then."""
    times = media.frame_times(path)
    if len(times) != info.frames:  # a clock that says nothing of some frames
        times = [number / info.fps for number in range(info.frames)]
    ends = [time - times[0] for time in times[1:]] + [info.seconds]
    made = 0
    for number, frame in enumerate(media.read_video(path)):
        end = ends[min(number, len(ends) - 1)]
        while made + 0.5 < end * fps - 1e-6:  # clocks are rounded
            yield frame
            made += 1


def _kept(video: media.VideoWriter, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames cut to the size of a video, and written into it on the way."""
    for frame in frames:
        cut = frame[: video.shape[0], : video.shape[1]]
        video.write(cut[None])
        yield cut


def _seen(measured: Measurement, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for frame in frames:
        measured.frame(frame)
        yield frame


def _check(config: PrepareConfig, names: dict[Path, str]) -> None:
    """Raise Mistake where the clips have no names of their own, or the output would change what is read."""
    if not names:
        raise Mistake(f"{config.source}: no videos in it ({', '.join(sorted(VIDEO_SUFFIXES))})")
    if len({_stem(name) for name in names.values()}) < len(names):
        raise Mistake(f"{config.source}: two clips have the same name but for the ending; rename one")
    inputs = [config.source if config.source.is_dir() else None, config.vocals, config.mask]
    check_folder(config.output, inputs=inputs, space=needed(config, names))
    for report in REPORTS if config.output.is_dir() else ():
        check_output(config.output / report, inputs=[config.source])
    if config.mask and config.mask.is_file():
        read_mask(config.mask)
    for path, name in names.items():
        if os.path.realpath((config.output / name).parent) == os.path.realpath(path.parent):
            raise Mistake(f"{config.output}: {path} lies in it, and its sound would be written over; choose another")


def _run(config: PrepareConfig, names: dict[Path, str]) -> Iterator[tuple[str, Quality | Mistake]]:
    """Name and outcome of every clip, as they are finished."""
    workers = (os.cpu_count() or 1) if config.workers is None else config.workers
    if workers:
        yield from outcomes(_begin, config, {name: path for path, name in names.items()}, workers)
        return
    work = _begin(config)
    for path, name in names.items():
        yield name, work(path, name)


def _begin(config: PrepareConfig) -> Work:
    """What a process does with each clip. An error is handed back, so that one bad clip does not end the others."""
    finder = FaceFinder(config.detector, config.landmarks)

    def work(path: Path, name: str) -> Quality | Mistake:
        try:
            return prepare_clip(path, name, config, finder)
        except Mistake as error:
            return Mistake(str(error), error.reason)  # without its cause, which not every process can read

    return work


def _clear(target: Path) -> None:
    """Remove what a process that died has left of a clip."""
    for suffix in (target.suffix, ".wav", MASKS_SUFFIX, QUALITY_SUFFIX):
        for ending in (".part", ".lock"):
            hidden(target.with_suffix(suffix), ending).unlink(missing_ok=True)


def _finished(report: Path, stamp: dict) -> Quality | None:
    """The measures of a clip that was prepared before, from the same file with the same options."""
    try:
        found = json.loads(report.read_text())
        quality = Quality(**found.pop("quality"))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return quality if found == stamp else None


def _inside(name: str, config: PrepareConfig) -> str:
    """Where a clip goes under the output: as it lies under the source, or by its last name where it lies elsewhere."""
    inside = Path(name).name if Path(name).is_absolute() or ".." in Path(name).parts else name
    return str(Path(inside).with_suffix(".mp4")) if config.fps else inside


def _stem(name: str) -> str:
    return str(Path(name).with_suffix(""))


def _link(source: Path, target: Path) -> None:
    """Give a clip its second name. Not by `whole`, which would change the permissions of the clip itself."""
    with explained(target, GOES_ON):
        partial = hidden(target)
        partial.unlink(missing_ok=True)  # left by a run that was killed
        try:
            os.link(source.resolve(), partial)
        except OSError:  # another file system
            shutil.copyfile(source, partial)
        partial.replace(target)
        partial.unlink(missing_ok=True)  # a rename between two names of one file leaves both
