"""A whole run of sampling, 5 s of sound with random weights and 10 steps, by phases."""

import dataclasses
import itertools
import time
import wave
from pathlib import Path

import numpy as np

from benchmarks.gpu.measure import Rows, Size
from stableavatar_jax import startup

SECONDS, STEPS = 5, 10


def main(size: Size, rows: Rows) -> None:
    """Seconds of every phase, from the start of Python's imports to the finished file."""
    clock = [("start", time.perf_counter())]
    spent: list[tuple[str, startup.Spent]] = []

    def mark(name: str) -> None:
        clock.append((name, time.perf_counter()))
        if name != "denoised" or spent[-1][0] != name:
            spent.append((name, dataclasses.replace(startup.SPENT)))

    startup.watch()
    from PIL import Image

    from stableavatar_jax.sampling.avatar import open_avatar
    from stableavatar_jax.sampling.config import Denoising, Frame, SampleConfig, Weights
    from stableavatar_jax.sampling.inputs import Inputs
    from stableavatar_jax.sampling.job import open_job
    from stableavatar_jax.sampling.progress import Decoded, Denoised, Encoding, Event
    from stableavatar_jax.sampling.video import write

    mark("import")
    folder = rows.path.parent
    picture, sound, output = (folder / name for name in ("picture.png", "sound.wav", "video.mp4"))
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(picture)
    write_sound(sound, draw.standard_normal(16000 * SECONDS) * 3000)
    windows = dataclasses.replace(Denoising().windows, window=size.frames, overlap=size.frames // 2)
    config = SampleConfig(
        model=size.model, inputs=Inputs(image=picture, audio=sound),
        weights=Weights(random_weights=True, dtype="bfloat16" if size.dtype == "bfloat16" else "float32"),
        frame=Frame(height=8 * size.rows, width=8 * size.columns),
        denoising=Denoising(steps=STEPS, windows=windows),
    )  # fmt: skip

    def tell(event: Event) -> None:
        match event:
            case Encoding(part):
                mark(f"before {part}")
            case Denoised():
                mark("denoised")
            case Decoded():
                mark("decoded")

    write(output, open_job(config), open_avatar(config), sound=sound, tell=tell)
    mark("end")
    report(clock, rows)
    for (name, before), (until, after) in itertools.pairwise(spent):
        parts = {key: getattr(after, key) - getattr(before, key) for key in ("weights", "compiling")}
        if max(parts.values()) > 0.1:
            made = f"{after.programs - before.programs} programs, {after.cached - before.cached} cached"
            rows.add(f"  {name} to {until}", made=made, **{key: round(value, 2) for key, value in parts.items()})


def report(clock: list[tuple[str, float]], rows: Rows) -> None:
    """The phases between what was told."""
    times = {name: [t for n, t in clock if n == name] for name, _ in clock}
    start, steps, decoded = times["start"][0], times["denoised"], times["decoded"]
    parts = [(name.removeprefix("before "), t) for name, t in clock if name.startswith("before ")]
    rows.add("sample: import", s=round(times["import"][0] - start, 2))
    rows.add("sample: reading picture and sound", s=round(parts[0][1] - times["import"][0], 2))
    for (name, begun), (_, ended) in zip(parts, [*parts[1:], ("", 0.0)], strict=True):
        if ended:
            rows.add(f"sample: {name}, weights, compiling and run", s=round(ended - begun, 2))
    step = float(np.median(np.diff(steps)))
    first = steps[0] - step - parts[-1][1]
    rows.add(f"sample: {parts[-1][0]}, and the transformer's weights and compiling", s=round(first, 2))
    rows.add(f"sample: denoising, {STEPS} steps", s=round(step * STEPS, 2), ms_a_step=round(1e3 * step, 1))
    rows.add("sample: decoder's weights, compiling, first frame", s=round(decoded[0] - steps[-1], 2))
    rows.add("sample: decoding", s=round(decoded[-1] - decoded[0], 2), frames=len(decoded))
    rows.add("sample: end of the file", s=round(times["end"][0] - decoded[-1], 2))
    whole = times["end"][0] - start
    rows.add("sample: whole run", s=round(whole, 2), outside_denoising=round(whole - step * STEPS, 2))


def write_sound(path: Path, samples: np.ndarray) -> None:
    """A WAV file of 16 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.astype("<i2").tobytes())
