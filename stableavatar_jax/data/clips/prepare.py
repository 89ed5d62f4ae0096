"""From raw clips to clips with masks, sound and a report: what `build` reads.

    OUT/talk.mp4          the clip itself (a hard link where possible)
    OUT/talk.masks.zip    face_masks/frame_0.png, lip_masks/frame_0.png, ...
    OUT/talk.wav          its sound, or the voice alone where that is given
    OUT/talk.quality.json its measures; written last, so a clip that has one is whole
    OUT/report.csv        all clips, with what is wrong with each
    OUT/clips.txt         those to use

A clip is worked on under hidden names. The same command goes on where it was stopped.
"""

import contextlib
import csv
import dataclasses
import io
import json
import multiprocessing
import os
import shutil
import wave
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stableavatar_jax import media
from stableavatar_jax.data.clips.faces import FaceFinder, face_masks
from stableavatar_jax.data.clips.layouts import CLIP_LIST, MASKS_SUFFIX, QUALITY_SUFFIX, VIDEO_SUFFIXES, named_clips
from stableavatar_jax.data.clips.quality import Limits, Measurement, Quality, as_row
from stableavatar_jax.data.clips.tally import OnBad, Tally
from stableavatar_jax.errors import Mistake


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Find faces, cut out the sound and measure the quality of raw clips."""

    source: Path
    """Folder of videos (subfolders included), or .txt file with one path per line. Paths name the kind: speech,
    singing or dancing."""
    output: Path
    """Folder for the prepared clips."""
    detector: Path
    """MediaPipe's face detector, face_detection_short_range.tflite."""
    landmarks: Path
    """MediaPipe's landmark model, face_landmark.tflite."""
    vocals: Path | None = None
    """Folder of voices separated from the music, NAME.wav for NAME.mp4; other clips keep their own sound."""
    grow: float = 0.1
    """Share by which masks are larger than the face and the lips."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Number of clips worked on at once."""
    on_bad: OnBad = "skip"
    """Whether a clip that cannot be read is left out and reported, or ends the run."""
    limits: Limits = field(default_factory=Limits)


def prepare(config: PrepareConfig) -> Tally:
    """Prepare every clip of a source; returns what was left out. Raises Mistake."""
    names = {path: _inside(name) for name, path in named_clips(config.source).items() if path.is_file()}
    if not names:
        raise Mistake(f"{config.source}: no videos in it ({', '.join(sorted(VIDEO_SUFFIXES))})")
    if len({_stem(name) for name in names.values()}) < len(names):
        raise Mistake(f"{config.source}: two clips have the same name but for the ending; rename one")
    tally = Tally(on_bad=config.on_bad)
    reports: dict[str, dict] = {}
    with _explained(config.output):
        config.output.mkdir(parents=True, exist_ok=True)
        for name, outcome in tqdm(_run(config, names), total=len(names), desc="clips", unit="clip"):
            if isinstance(outcome, Mistake):
                tally.refuse(outcome)
                reports[name] = {"faults": str(outcome)}
                continue
            faults = config.limits.faults(outcome)
            reports[name] = {"faults": "; ".join(faults), **as_row(outcome)}
            if faults:
                tally.refuse_quietly("beyond the limits")
        _write_reports(config.output, dict(sorted(reports.items())))
    return tally


def prepare_clip(path: Path, name: str, config: PrepareConfig, finder: FaceFinder) -> Quality:
    """Prepare one clip, unless it is there already; its measures. Raises Mistake."""
    target = config.output / name
    report = target.with_suffix(QUALITY_SUFFIX)
    stamp = {"bytes": path.stat().st_size, "grow": config.grow, "vocals": str(config.vocals)}
    if done := _finished(report, stamp):
        return done
    with _explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        info = media.probe(path)
        voice = _voice(config, name)
        if not voice and not info.sound:
            raise Mistake(f"{path}: the clip has no sound; leave it out", "no sound")
        sound_rate = _write_sound(voice or path, target.with_suffix(".wav"))
        measured = Measurement()

        def seen() -> Iterator[np.ndarray]:
            for frame in media.read_video(path):
                measured.frame(frame)
                yield frame

        with _renamed(target.with_suffix(MASKS_SUFFIX)) as partial, zipfile.ZipFile(partial, "w") as masks:
            for number, face in enumerate(finder.follow(seen())):
                measured.face(face)
                drawn = face_masks(face, measured.size, config.grow)
                for part, mask in zip(("face_masks", "lip_masks"), drawn, strict=True):
                    png = io.BytesIO()
                    mask.save(png, "PNG")
                    masks.writestr(f"{part}/frame_{number}.png", png.getvalue())
        with _renamed(target) as partial:
            _link(path, partial)
        quality = measured.result(path, info.fps, media.read_sound(target.with_suffix(".wav")), sound_rate)
        with _renamed(report) as partial:
            partial.write_text(json.dumps({**stamp, "quality": dataclasses.asdict(quality)}, indent=2) + "\n")
    return quality


def _run(config: PrepareConfig, names: dict[Path, str]) -> Iterator[tuple[str, Quality | Mistake]]:
    """Name and outcome of every clip, as they are finished."""
    if config.workers <= 1:
        finder = FaceFinder(config.detector, config.landmarks)
        for path, name in names.items():
            yield name, _outcome(path, name, config, finder)
        return
    FaceFinder(config.detector, config.landmarks)  # what is wrong with the models is said once, here
    context = multiprocessing.get_context("spawn")  # threads of LiteRT and FFmpeg do not survive a fork
    with ProcessPoolExecutor(config.workers, context, _begin, (config,)) as pool:
        try:
            waiting = {pool.submit(_work, path, name): name for path, name in names.items()}
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BrokenProcessPool as error:
            raise Mistake(
                f"{config.output}: a worker was killed, most likely for memory; run again with fewer --workers, "
                "it goes on from here"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_worker: tuple[PrepareConfig, FaceFinder] | None = None


def _begin(config: PrepareConfig) -> None:
    global _worker
    _worker = config, FaceFinder(config.detector, config.landmarks)


def _work(path: Path, name: str) -> Quality | Mistake:
    assert _worker
    return _outcome(path, name, *_worker)


def _outcome(path: Path, name: str, config: PrepareConfig, finder: FaceFinder) -> Quality | Mistake:
    """An error is handed back, so that one bad clip does not end the others; a full disk ends all."""
    try:
        return prepare_clip(path, name, config, finder)
    except _OutputError:
        raise
    except Mistake as error:
        return Mistake(str(error), getattr(error, "reason", "damaged"))


def _finished(report: Path, stamp: dict) -> Quality | None:
    """The measures of a clip that was prepared before, from the same file with the same options."""
    try:
        found = json.loads(report.read_text())
        quality = Quality(**found.pop("quality"))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return quality if found == stamp else None


def _voice(config: PrepareConfig, name: str) -> Path | None:
    """The separated voice of a clip, where there is one."""
    path = config.vocals / Path(name).with_suffix(".wav") if config.vocals else None
    return path if path and path.exists() else None


def _write_sound(source: Path, target: Path) -> int:
    """The sound of a file as mono 16-bit WAV at its own rate, which is returned."""
    with media.open_sound(source) as sound, _renamed(target) as partial, wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        for block in sound.blocks:
            file.writeframes(np.rint(block.mean(0).clip(-1, 1) * 32767).astype("<i2").tobytes())
        if not file.tell():
            raise Mistake(f"{source}: the sound track is empty; record or export it again", "no sound")
        return sound.rate


def _write_reports(output: Path, reports: dict[str, dict]) -> None:
    columns = ["id", "kept", "faults", *(each.name for each in dataclasses.fields(Quality))]
    rows = [{"id": name, "kept": not row["faults"], **row} for name, row in reports.items()]
    with _renamed(output / "report.csv") as partial, partial.open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    with _renamed(output / CLIP_LIST) as partial:
        partial.write_text("".join(f"{row['id']}\n" for row in rows if row["kept"]))


def _inside(name: str) -> str:
    """Where a clip goes under the output: as it lies under the source, or by its last name where it lies elsewhere."""
    return Path(name).name if Path(name).is_absolute() or ".." in Path(name).parts else name


def _stem(name: str) -> str:
    return str(Path(name).with_suffix(""))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


class _OutputError(Mistake):
    """The output cannot be written."""


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _OutputError(
            f"{path}: cannot be written ({error.strerror}); make room, or choose a folder you may write to; what is "
            "finished is kept, and the same command goes on from there"
        ) from error


@contextlib.contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """A hidden file to write, which takes its name when it is whole and goes when it is not."""
    partial = path.with_name(f".{path.name}.part")
    partial.unlink(missing_ok=True)  # left by a run that was killed
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
