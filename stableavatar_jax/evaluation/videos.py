"""Any videos measured: what is seen in them, against their sound, a picture and a truth."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.data.clips.faces import FaceFinder
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation.config import Measure
from stableavatar_jax.evaluation.measures import IDENTITY, Curve, Measured, colour_drift, measure
from stableavatar_jax.evaluation.plot import draw_plots
from stableavatar_jax.evaluation.quality import psnr, ssim
from stableavatar_jax.evaluation.readers import CartoonReader, FaceReader
from stableavatar_jax.evaluation.readings import Frame, Reader, Readings, read
from stableavatar_jax.evaluation.report import Picture, finish, means, table
from stableavatar_jax.evaluation.sheet import labelled, tile
from stableavatar_jax.frames import evenly, latent_frames
from stableavatar_jax.world.listening import from_sound

SHOWN = 12
"""Frames of each video on its contact sheet, in two rows."""
WIDEST = 200
"""Pixels of a frame's width there."""


def judge(config: Measure) -> None:
    """Measure, print, write. Raises Mistake for files that cannot be read."""
    reader = open_reader(config)
    rows: dict[str, dict[str, float]] = {}
    pictures: dict[str, Picture] = {}
    for place, path in enumerate(config.videos):
        name = path.stem if path.stem not in rows else f"{path.stem}-{place + 1}"
        seen, sheet = look_at(path, reader)
        truth = config.truth[place] if config.truth else None
        found = measured(config, path, seen, truth, reader)
        rows[name] = found.values
        pictures |= {f"{name}.sheet": sheet, f"{name}.plots": draw_plots(found.curves, seen.fps)}
    if config.output is None:
        print(table(rows))
        return
    finish(config.output, rows, means(rows), (), {"videos": ", ".join(map(str, config.videos))}, pictures)


def open_reader(config: Measure) -> Reader | None:
    """Who looks for the face, as the options say; None where they name nobody. Raises Mistake for other models."""
    if config.character is not None:
        return CartoonReader(config.character)
    if config.detector and config.landmarks:
        return FaceReader(config.detector, config.landmarks, config.identity)
    return None


def look_at(path: Path, reader: Reader | None) -> tuple[Readings, Picture]:
    """Readings of a video file, and its contact sheet. Raises Mistake for a file that cannot be read."""
    info = media.probe(path)
    wanted, kept = evenly(SHOWN, info.frames), []

    def passing() -> Iterator[Frame]:
        for number, frame in enumerate(media.read_video(path)):
            if number in wanted:
                kept.append(labelled(shrunk(frame), f"{number / info.fps:.2f} s"))
            yield frame

    seen = read(passing(), info.fps, reader)
    kept += kept[-1:] * (-len(kept) % 2)  # two rows of one length
    half = len(kept) // 2
    return seen, tile([kept[:half], kept[half:]])


def shrunk(frame: Frame) -> Picture:
    """The frame no wider than `WIDEST`."""
    height, width, _ = frame.shape
    if width <= WIDEST:
        return frame
    return np.asarray(Image.fromarray(frame).resize((WIDEST, round(WIDEST * height / width)), Image.Resampling.LANCZOS))


def measured(config: Measure, path: Path, seen: Readings, truth: Path | None, reader: Reader | None) -> Measured:
    """All measures of one video."""
    true = look_at(truth, reader)[0] if truth else None
    plan = None
    if config.windows:
        from stableavatar_jax.diffusion.windows import WindowPlan

        plan = WindowPlan(latent_frames(len(seen)), *config.windows)
    if true and true.faces:
        found = measure(seen, expected=true.faces.opening, flat=true.faces.flat, plan=plan)
    else:
        found = measure(seen, expected=from_own_sound(config, path, seen), plan=plan)
    values = found.values
    if config.syncnet:
        values = values | scores(config, path)
    if config.reference:
        values = values | against_picture(config.reference, path, seen, reader)
    if truth:
        values = values | against_truth(path, truth)
    return Measured(values, found.curves)


def from_own_sound(config: Measure, path: Path, seen: Readings) -> Curve | None:
    """The opening that the recording asks for, or the video's sound; None where there is none, or no face."""
    if not seen.faces:
        return None
    sound = config.audio or (path if media.probe(path).sound else None)
    return from_sound(media.read_sound(sound), len(seen), seen.fps) if sound else None


def scores(config: Measure, path: Path) -> dict[str, float]:
    """SyncNet's scores; nothing of a video without sound."""
    from stableavatar_jax.evaluation.syncnet import cut_faces, load_syncnet, syncnet

    sound = config.audio or (path if media.probe(path).sound else None)
    if sound is None:
        return {}
    assert config.syncnet and config.detector and config.landmarks
    weights = load_syncnet(config.syncnet)
    found = syncnet(weights, cut_faces(path, FaceFinder(config.detector, config.landmarks)), media.read_sound(sound))
    return {"Sync-C": found.c, "Sync-D": found.d, "Sync offset": float(found.offset)}


def against_picture(picture: Path, path: Path, seen: Readings, reader: Reader | None) -> dict[str, float]:
    """Colours of the video against the picture fitted to its frame, and the identity of its face."""
    info = media.probe(path)
    fitted = media.as_bytes(media.fit_picture(media.read_picture(picture), info.height, info.width))
    shown = read([fitted], info.fps, reader)
    values = {"colour_reference": colour_drift(shown.colours, seen.colours)}
    if shown.faces and seen.faces:
        for name, known in shown.faces.identity.items():
            values[f"{name} reference"] = IDENTITY[name](known, seen.faces.identity[name])
    return values


def against_truth(path: Path, truth: Path) -> dict[str, float]:
    """PSNR and SSIM, mean over the frames that both have. Raises Mistake for frames of two sizes."""
    pairs = []
    for one, other in zip(media.read_video(path), media.read_video(truth), strict=False):
        if one.shape != other.shape:
            sizes = " and ".join(f"{each.shape[1]}x{each.shape[0]}" for each in (one, other))
            raise Mistake(f"{path}, {truth}: frames of {sizes} pixels; export them in one size")
        pairs.append((psnr(one, other), ssim(one, other)))
    found = np.mean(pairs, axis=0)
    return {"psnr": float(found[0]), "ssim": float(found[1])}
